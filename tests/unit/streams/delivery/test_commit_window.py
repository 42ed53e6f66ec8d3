"""The window commits exactly the contiguous finished prefix, in any order of finish, and names the rest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import Commit, Partition, made_anew
from streams.delivery.commit_window import (
    CommitWindow,
    OutputEnds,
    Slot,
    anew_commit,
    known_from,
    topics_made_anew,
)

IDS = {"in": "i1", "out": "o1", "dead": "d1"}


@st.composite
def finishing(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Offsets with gaps (compaction, markers), and some of them in the order they finish."""
    steps = draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    offsets = [sum(steps[: index + 1]) for index in range(len(steps))]
    order = draw(st.permutations(offsets))
    return offsets, order[: draw(st.integers(0, len(order)))]


def admitted(window: CommitWindow, offset: int) -> Slot:
    slot = window.admit(offset)
    assert slot is not None
    return slot


@given(finishing())
def test_commit_is_the_contiguous_finished_prefix_and_names_what_is_finished_behind_it(
    case: tuple[list[int], list[int]],
) -> None:
    offsets, finished = case
    window = CommitWindow(0, OutputEnds({}), IDS)
    slots = {offset: admitted(window, offset) for offset in offsets}
    done: set[int] = set()
    for offset in finished:
        window.finish(slots[offset])
        done.add(offset)
        prefix = [o for i, o in enumerate(offsets) if set(offsets[: i + 1]) <= done]
        commit = window.commit()
        assert commit.offset == (prefix[-1] + 1 if prefix else offsets[0])
        known = known_from(commit, "in", IDS)
        assert known is not None
        assert known.done == {o for o in done if o >= commit.offset}


@given(finishing(), st.data())
def test_an_output_that_a_commit_does_not_count_lies_where_the_next_owner_reads(
    case: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    """Messages are handed over, written, confirmed and finished; somebody else writes to the topic, too."""
    offsets, order = case
    ends = OutputEnds({"out": 100})
    window = CommitWindow(0, ends, IDS)
    slots = {offset: admitted(window, offset) for offset in offsets}
    written: dict[int, int] = {}
    handed_over: list[int] = []
    end, waiting = 100, list(order)
    while waiting or handed_over:
        what = data.draw(st.sampled_from(["hand over", "write", "confirm", "another writes", "stop"]))
        if what == "hand over" and waiting:
            slots[waiting[0]].handed_over(ends, "out")
            handed_over.append(waiting.pop(0))
        elif what == "write" and (new := [one for one in handed_over if one not in written]):
            written[new[0]] = end
            end += 1
        elif what == "confirm" and (there := [one for one in handed_over if one in written]):
            which = there[0]
            handed_over.remove(which)
            ends.sent("out", written[which])
            window.finish(slots[which])
        elif what == "another writes":
            ends.sent("out", end)
            end += 1
        elif what == "stop":
            break
    commit = window.commit()
    known = known_from(commit, "in", IDS)
    assert known is not None
    unknown = {o: at for o, at in written.items() if o >= commit.offset and o not in known.done}
    assert all(at >= known.outputs["out"] for at in unknown.values())
    # And no more is read than since the oldest that is not confirmed.
    assert known.outputs["out"] == ends.current["out"] or handed_over


@given(finishing(), finishing())
def test_a_new_owner_counts_what_the_one_before_it_has_finished(
    first: tuple[list[int], list[int]], second: tuple[list[int], list[int]]
) -> None:
    offsets, finished = first
    window = CommitWindow(0, OutputEnds({}), IDS)
    slots = {offset: admitted(window, offset) for offset in offsets}
    for offset in finished:
        window.finish(slots[offset])
    commit = window.commit()
    known = known_from(commit, "in", IDS)
    assert known is not None
    heir = CommitWindow(commit.offset, OutputEnds({}), IDS, done=known.done)
    again = known_from(heir.commit(), "in", IDS)
    assert again is not None
    # Before it has read anything it says the same.
    assert {o for o in offsets if o < heir.commit().offset or o in again.done} == set(finished)
    left = [offset for offset in offsets if offset >= commit.offset]
    taken = {offset: slot for offset in left if (slot := heir.admit(offset)) is not None}
    assert {offset for offset, slot in taken.items() if slot.done} == known.done & taken.keys()
    assert set(left) - taken.keys() <= set(finished)


def test_what_another_makes_of_the_same_row_may_lie_on_any_output() -> None:
    ends = OutputEnds({"out": 5, "dead": 7})
    window = CommitWindow(0, ends, IDS)
    slot = admitted(window, 0)
    slot.handed_over(ends)
    ends.sent("out", 9)
    ends.sent("dead", 11)
    known = known_from(window.commit(), "in", IDS)
    assert known is not None
    assert known.outputs == {"out": 5, "dead": 7}
    window.finish(slot)
    known = known_from(window.commit(), "in", IDS)
    assert known is not None
    assert known.outputs == {"out": 10, "dead": 12}


def test_the_metadata_of_a_whole_window_has_room() -> None:
    """Kafka takes 4,096 bytes (`offset.metadata.max.bytes`)."""
    topics = [f"{'p' * 60}.{name}" for name in ("rows", "replay", "a", "b", "c", "d")]
    ids = dict.fromkeys(topics, "0" * 36)
    window = CommitWindow(10**12, OutputEnds(dict.fromkeys(topics, 10**12)), ids, anew=10**13)
    slots = [admitted(window, 10**12 + n) for n in range(1000)]
    for slot in slots[1::2]:
        window.finish(slot)
    assert len(window.commit().metadata) < 2048


def test_an_offset_read_twice_is_taken_once() -> None:
    window = CommitWindow(5, OutputEnds({}))
    assert window.admit(5) is not None
    assert window.admit(5) is None
    assert window.admit(4) is None


def test_metadata_of_others_says_nothing() -> None:
    for text in ("", "written by a tool", "[1]", '{"outputs": 3}', '{"topic-ids": []}'):
        assert known_from(Commit(3, text), "in", IDS) is None
    damaged = '{"topic-ids": {"in": "i1"}, "outputs": {"out": 3}, "done": "%"}'
    assert known_from(Commit(3, damaged), "in", IDS) is None
    assert known_from(Commit(-1), "in", IDS) is None


def test_the_floors_of_release_0_1_are_read() -> None:
    ids = '{"in": "i1", "out": "o1", "dead": "d1"}'
    known = known_from(Commit(3, f'{{"floors": {{"out": 7, "dead": "x"}}, "topic-ids": {ids}}}'), "in", IDS)
    assert known is not None
    assert (known.outputs, known.done) == ({"out": 7}, frozenset())


def test_what_was_known_of_a_topic_made_anew_does_not_count() -> None:
    window = CommitWindow(5, OutputEnds({"out": 7, "dead": 3}), IDS)
    commit = window.commit()
    known = known_from(commit, "in", IDS)
    assert known is not None
    assert known.outputs == {"out": 7, "dead": 3}
    known = known_from(commit, "in", IDS | {"out": "o2"})
    assert known is not None
    assert known.outputs == {"dead": 3}
    assert known_from(commit, "in", IDS | {"in": "i2"}) is None
    assert made_anew(commit.metadata, "in", "i2")
    assert not made_anew(commit.metadata, "in", "i1")
    assert not made_anew("", "in", "i1")


def test_a_topic_whose_commits_went_with_it_is_told_by_those_of_another() -> None:
    one, other = Partition("in", 0), Partition("other", 0)
    noted = CommitWindow(5, OutputEnds({}), {"in": "i1", "other": "x1"}).commit()
    now = {"in": "i2", "other": "x1"}
    assert topics_made_anew({one: Commit(-1), other: noted}, now) == {one}
    assert topics_made_anew({one: Commit(-1), other: noted}, {"in": "i1", "other": "x1"}) == set()
    assert topics_made_anew({one: Commit(-1), other: Commit(-1)}, now) == set()
    # Until its outputs were looked at, it stays one that was made anew.
    assert topics_made_anew({one: anew_commit(now), other: noted}, now) == {one}
    assert known_from(anew_commit(now), "in", now) is None
