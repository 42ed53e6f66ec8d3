"""What brokers tell of a user's rights."""

from __future__ import annotations

from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from connectors.kafka.errors import translate
from connectors.kafka.rights.granted import operations
from streams.core.errors import AccessError


def test_bits_are_operations() -> None:
    assert operations(1 << 3 | 1 << 8 | 1 << 6) == {"Read", "Describe"}  # and Delete, which nobody needs
    assert operations(0) == set()


def test_a_broker_that_does_not_tell_is_not_one_that_forbids() -> None:
    assert operations(-(2**31)) is None


def test_a_refusal_names_what_it_is_about() -> None:
    for error, name in (
        (TopicAuthorizationFailedError("esk.rows"), "topic esk.rows"),
        (TopicAuthorizationFailedError({"esk.rows", "esk.labeled"}), "topic esk.labeled, esk.rows"),
        (GroupAuthorizationFailedError("esk-sink"), "the right Read on group esk-sink"),
        (TopicAuthorizationFailedError(), "the brokers do not say which"),
    ):
        ours = translate(error)
        assert isinstance(ours, AccessError)
        assert name in str(ours)
        assert "labelstream check" in ours.fix
