"""Every exception of aiokafka is mapped to one of ours, and none counts as unexpected."""

from __future__ import annotations

import inspect
import ssl

import pytest
from aiokafka import errors as kafka

from connectors.kafka.errors import translate
from streams.core.errors import (
    AccessError,
    LabelstreamError,
    LeaseLostError,
    PermanentError,
    RefusedError,
    RetryableError,
    UnavailableError,
)

FOREIGN = sorted(
    (
        value
        for value in vars(kafka).values()
        if inspect.isclass(value) and issubclass(value, Exception) and value.__module__.startswith("aiokafka")
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", FOREIGN, ids=lambda kind: kind.__name__)
def test_every_foreign_error_is_mapped(kind: type[Exception]) -> None:
    ours = translate(kind())
    assert isinstance(ours, LabelstreamError)
    assert getattr(ours, "reason", "") != "unexpected"
    if getattr(kind, "retriable", False):
        assert isinstance(ours, RetryableError)


def test_the_telling_ones() -> None:
    assert isinstance(translate(kafka.SaslAuthenticationFailed()), AccessError)
    assert isinstance(translate(kafka.CommitFailedError()), LeaseLostError)
    assert isinstance(translate(kafka.MessageSizeTooLargeError()), RefusedError)
    assert isinstance(translate(ConnectionRefusedError()), UnavailableError)
    assert isinstance(translate(ssl.SSLError()), AccessError)
    assert isinstance(translate(ValueError("?")), PermanentError)
