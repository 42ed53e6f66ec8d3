"""Cascades as they travel on the versions topic."""

from __future__ import annotations

import random

import pytest

from streams.core.cascade import PART_BYTES, PROXY_BYTES, CascadeState, ProxyRef, reset_message
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.versions.topic import KnownVersions

TOPICS = Topics("esk")
PACKED = random.Random(7).randbytes(2 * PART_BYTES + 5)


def learned(*messages: Outgoing) -> KnownVersions:
    known = KnownVersions()
    for offset, one in enumerate(messages):
        known.learn(Record(one.topic, 0, offset, 0, one.key, one.value, tuple(one.headers)))
    return known


def certified(proxy: ProxyRef) -> CascadeState:
    return CascadeState(
        version="v", state="certified", generation=proxy.generation, proxy=proxy, threshold=0.8
    )


def test_a_proxy_is_known_when_all_its_parts_are_there_and_its_digest_fits() -> None:
    proxy = ProxyRef.of(3, PACKED)
    parts = list(proxy.messages("v", PACKED, TOPICS))
    state = certified(proxy).message(TOPICS)
    assert len(parts) == 3
    known = learned(*parts, state)
    assert known.proxy_of("v") == (3, PACKED)
    assert (known.specs, known.proxy_of("w")) == ({}, None)
    assert learned(state, *reversed(parts)).proxy_of("v") == (3, PACKED)
    assert learned(*parts[1:], state).proxy_of("v") is None
    damaged = parts[0]._replace(value=b"x" + PACKED[1:PART_BYTES])
    assert learned(*parts, damaged, state).proxy_of("v") is None
    assert learned(*parts, *proxy.tombstones("v", TOPICS), state).proxy_of("v") is None


def test_another_content_under_the_same_generation_is_not_taken_for_the_one_that_stands() -> None:
    proxy, other = ProxyRef.of(3, PACKED), ProxyRef.of(3, b"another")
    known = learned(
        *proxy.messages("v", PACKED, TOPICS),
        certified(proxy).message(TOPICS),
        *other.messages("v", b"another", TOPICS),
    )
    assert known.proxy_of("v") == (3, PACKED)


def test_a_proxy_too_large_to_be_published_is_refused() -> None:
    with pytest.raises(ValueError, match="4000001 bytes"):
        ProxyRef.of(1, b"x" * (PROXY_BYTES + 1))


def test_a_wish_to_begin_anew_ends_the_certificate_until_it_is_fulfilled() -> None:
    proxy = ProxyRef.of(1, PACKED)
    state = certified(proxy)
    known = learned(state.message(TOPICS), reset_message(TOPICS, "v", "first"))
    found = known.cascade_of("v")
    assert found is not None
    assert (found.state, found.decides, state.decides) == ("learning", False, True)
    fulfilled = state.model_copy(update={"reset": "first", "generation": 2})
    known = learned(reset_message(TOPICS, "v", "first"), fulfilled.message(TOPICS))
    assert known.cascade_of("v") == fulfilled


def test_what_is_damaged_or_of_another_version_is_ignored() -> None:
    state = CascadeState(version="v")
    known = learned(
        state.message(TOPICS),
        Outgoing(TOPICS.versions, 0, b"cascade/v", b"nonsense"),
        Outgoing(TOPICS.versions, 0, b"cascade/w", state.message(TOPICS).value),
        Outgoing(TOPICS.versions, 0, b"cascade-reset/v", b"[]"),
    )
    assert known.cascade_of("v") == state
    assert known.cascade_of("w") is None


def test_calls_are_saved_by_what_is_routed_less_what_is_audited() -> None:
    state = CascadeState(version="v", texts=200, routable=100, audit_rate=0.1)
    assert state.calls_saved == pytest.approx(0.45)
    assert CascadeState(version="v").calls_saved is None
