"""The window commits exactly the contiguous finished prefix, in any order of finish."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from streams.core.records import made_anew
from streams.delivery.commit_window import Window, floors_of
from streams.delivery.deduplication import Floors


@st.composite
def finishing(draw: st.DrawFn) -> tuple[list[int], list[int]]:
    """Offsets with gaps (compaction, markers), and some of them in the order they finish."""
    steps = draw(st.lists(st.integers(1, 4), min_size=1, max_size=40))
    offsets = [sum(steps[: index + 1]) for index in range(len(steps))]
    order = draw(st.permutations(offsets))
    return offsets, order[: draw(st.integers(0, len(order)))]


@given(finishing())
def test_commit_is_the_contiguous_finished_prefix(case: tuple[list[int], list[int]]) -> None:
    offsets, finished = case
    window = Window(0, Floors({}))
    slots = {offset: window.admit(offset) for offset in offsets}
    done: set[int] = set()
    for offset in finished:
        slot = slots[offset]
        assert slot is not None
        window.finish(slot)
        done.add(offset)
        prefix = [o for i, o in enumerate(offsets) if set(offsets[: i + 1]) <= done]
        assert window.commit().offset == (prefix[-1] + 1 if prefix else offsets[0])


@given(finishing(), st.data())
def test_floor_lies_below_every_output_of_uncommitted_input(
    case: tuple[list[int], list[int]], data: st.DataObject
) -> None:
    offsets, finished = case
    floors = Floors({"out": 100})
    window = Window(0, floors)
    slots = {}
    output_of: dict[int, int] = {}
    end = 100
    waiting = list(finished)
    for offset in offsets:
        slots[offset] = window.admit(offset)
        while waiting and waiting[0] in slots and data.draw(st.booleans()):
            which = waiting.pop(0)
            output_of[which] = end
            floors.sent("out", end)
            end += 1
            slot = slots[which]
            assert slot is not None
            window.finish(slot)
    commit = window.commit()
    floor = floors_of(commit.metadata)["out"]
    assert all(at >= floor for offset, at in output_of.items() if offset >= commit.offset)


def test_an_offset_read_twice_is_taken_once() -> None:
    window = Window(5, Floors({}))
    assert window.admit(5) is not None
    assert window.admit(5) is None
    assert window.admit(4) is None


def test_metadata_of_others_is_no_floor() -> None:
    assert floors_of("") == {}
    assert floors_of("written by a tool") == {}
    assert floors_of("[1]") == {}
    assert floors_of('{"floors": 3}') == {}
    assert floors_of('{"floors": {"a": "x", "b": 3}}') == {"b": 3}


def test_floors_of_a_topic_made_anew_do_not_count() -> None:
    window = Window(5, Floors({"out": 7, "dead": 3}), {"in": "i1", "out": "o1", "dead": "d1"})
    metadata = window.commit().metadata
    assert floors_of(metadata, {"in": "i1", "out": "o1", "dead": "d1"}) == {"out": 7, "dead": 3}
    assert floors_of(metadata, {"in": "i1", "out": "o2", "dead": "d1"}) == {"dead": 3}
    assert made_anew(metadata, "in", "i2")
    assert not made_anew(metadata, "in", "i1")
    assert not made_anew("", "in", "i1")
