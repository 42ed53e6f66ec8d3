"""Leases and decisions of the review queue: every process that reads the topic sees the same."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.ports.review import item_key
from streams.review.leases import (
    LEASE_SECONDS,
    MARGIN_SECONDS,
    Reviews,
    decision_message,
    lease_message,
)

TOPICS = Topics()
ROW = Place(datetime(2026, 1, 31, tzinfo=UTC), "42")
KEY = item_key(ROW, "unsure")
NOW = 1_800_000_000.0


def read(*messages: tuple[float, Outgoing]) -> Reviews:
    """What one learns who reads them all; times in seconds since NOW."""
    reviews = Reviews()
    for offset, (at, message) in enumerate(messages):
        reviews.learn(record(offset, at, message))
    return reviews


def record(offset: int, at: float, message: Outgoing) -> Record:
    return Record(message.topic, 0, offset, int((NOW + at) * 1000), message.key, message.value)


def test_the_first_to_ask_has_the_row_until_its_lease_ends() -> None:
    anna, boris = lease_message(TOPICS, KEY, "anna/1"), lease_message(TOPICS, KEY, "boris/1")
    both = read((0, anna), (1, boris))
    assert both.holds(KEY, "anna/1", NOW + 2)
    assert not both.holds(KEY, "boris/1", NOW + 2)
    assert not both.free(KEY, "boris/1", NOW + 2)
    # In the last minute nobody decides: the other's clock may be ahead.
    assert not both.holds(KEY, "anna/1", NOW + LEASE_SECONDS - MARGIN_SECONDS + 1)
    assert not both.free(KEY, "boris/1", NOW + LEASE_SECONDS - 1)
    later = read((0, anna), (LEASE_SECONDS + 1, boris))
    assert later.holds(KEY, "boris/1", NOW + LEASE_SECONDS + 2)
    assert not later.holds(KEY, "anna/1", NOW + LEASE_SECONDS + 2)


def test_another_tab_of_the_same_person_is_another_desk() -> None:
    asked = read((0, lease_message(TOPICS, KEY, "anna/1")), (1, lease_message(TOPICS, KEY, "anna/2")))
    assert asked.holds(KEY, "anna/1", NOW + 2)
    assert not asked.holds(KEY, "anna/2", NOW + 2)


def test_a_labelled_row_is_offered_no_more_and_an_undone_one_is_its_reviewer_s_again() -> None:
    anna, said = (
        lease_message(TOPICS, KEY, "anna/1"),
        decision_message(TOPICS, KEY, "anna/1", "label", "refund"),
    )
    labelled = read((0, anna), (1, said), (2, lease_message(TOPICS, KEY, "boris/1")))
    assert labelled.settled == {KEY: {"anna": "refund"}}
    assert not labelled.free(KEY, "anna/1", NOW + 3)
    assert not labelled.holds(KEY, "boris/1", NOW + 3)
    undone = read((0, anna), (1, said), (2, decision_message(TOPICS, KEY, "anna/1", "undo")))
    assert undone.settled == {}
    assert undone.holds(KEY, "anna/1", NOW + 3)


def test_a_skipped_row_is_for_somebody_else_and_a_released_one_for_anybody() -> None:
    anna = lease_message(TOPICS, KEY, "anna/1")
    skipped = read((0, anna), (1, decision_message(TOPICS, KEY, "anna/1", "skip")))
    assert not skipped.free(KEY, "anna/1", NOW + 2)
    assert skipped.free(KEY, "boris/1", NOW + 2)
    released = read((0, anna), (1, decision_message(TOPICS, KEY, "anna/1", "release")))
    assert released.free(KEY, "anna/1", NOW + 2)
    # Somebody else's skip gives nothing away.
    foreign = read((0, anna), (1, decision_message(TOPICS, KEY, "boris/1", "skip")))
    assert foreign.holds(KEY, "anna/1", NOW + 2)


def test_a_second_person_is_asked_after_the_first_and_no_third() -> None:
    audit = item_key(ROW, "audit")
    assert audit != KEY

    def asks(at: float, owner: str) -> tuple[float, Outgoing]:
        return at, lease_message(TOPICS, audit, owner, 2)

    def says(at: float, owner: str, label: str) -> tuple[float, Outgoing]:
        return at, decision_message(TOPICS, audit, owner, "label", label)

    once = [asks(0, "anna/1"), says(1, "anna/1", "refund")]
    # Not the same person at another desk.
    tried = read(*once, asks(2, "anna/2"), asks(3, "boris/1"))
    assert not tried.holds(audit, "anna/2", NOW + 4)
    assert tried.holds(audit, "boris/1", NOW + 4)
    # The first one's undo takes nothing from the second, who is at it.
    undone = read(*once, asks(2, "boris/1"), (3, decision_message(TOPICS, audit, "anna/1", "undo")))
    assert undone.holds(audit, "boris/1", NOW + 4)
    assert undone.settled == {}
    answered = (4, decision_message(TOPICS, audit, "boris/1", "answer", "no-label"))
    twice = read(*once, asks(3, "boris/1"), answered, asks(5, "vera/1"))
    assert twice.settled == {audit: {"anna": "refund", "boris": "no-label"}}
    assert not twice.free(audit, "vera/1", NOW + 6, 2)
    assert not twice.holds(audit, "vera/1", NOW + 6)
    # The same row in another queue is another matter.
    assert twice.free(item_key(ROW, "disagreements"), "vera/1", NOW + 6)


def test_what_others_write_there_is_passed_over() -> None:
    reviews = Reviews()
    for offset, (key, value) in enumerate(
        [(b"lease/x", b"{"), (b"lease/x", b"[]"), (b"done/x", b'{"owner": "a"}'), (None, None), (b"x", b"{}")]
    ):
        reviews.learn(Record("esk.review", 0, offset, 0, key, value))
    assert (reviews.leases, reviews.settled, reviews.seen) == ({}, {}, 4)


STEPS = st.tuples(
    st.sampled_from(["lease", "label", "answer", "skip", "release", "undo"]),
    st.sampled_from(["anna/1", "anna/2", "boris/1"]),
    st.sampled_from(["1", "2"]),
    st.integers(0, 400),
)


@given(st.lists(STEPS, max_size=30), st.integers(0, 30))
def test_who_reads_some_of_it_twice_sees_the_same(steps: list[tuple[str, str, str, int]], again: int) -> None:
    records, at = [], 0
    for offset, (what, owner, row_id, later) in enumerate(steps):
        at += later
        place = Place(ROW.created_at, row_id)
        message = (
            lease_message(TOPICS, item_key(place, "audit"), owner, 2)
            if what == "lease"
            else decision_message(TOPICS, item_key(place, "audit"), owner, what, "refund")  # type: ignore[arg-type]
        )
        records.append(record(offset, at, message))
    once, twice = Reviews(), Reviews()
    for one in records:
        once.learn(one)
    for one in [*records[:again], *records]:
        twice.learn(one)
    assert (once.leases, once.settled, once.skipped) == (twice.leases, twice.settled, twice.skipped)
