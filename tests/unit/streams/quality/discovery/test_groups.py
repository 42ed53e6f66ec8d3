"""What is new stands before a label's hard cases, and before what was there already."""

from __future__ import annotations

import random

import pytest

from connectors.clickhouse.queries.watching.recent_texts import RecentText
from streams.quality.discovery.groups import find_groups, novel_texts

_SUBJECTS = ("заказ", "посылка", "курьер", "доставка", "пакет", "груз", "товар", "коробка")
_ENDS = ("не приехал", "опаздывает", "потерялся", "ещё в пути", "стоит на складе", "пришёл не туда")
_BEGINS = ("скажите", "подскажите", "добрый день", "почему", "опять", "уже неделю")


def texts(
    subjects: tuple[str, ...], ends: tuple[str, ...], *, doubtful: bool, now: int = 1, before: int = 1
) -> list[RecentText]:
    confidence = 0.4 if doubtful else 0.95
    return [
        RecentText(f"{begin} {subject} {end}", "delivery", confidence, "1", now, before, doubtful)
        for begin in _BEGINS
        for subject in subjects
        for end in ends
    ]


def stream(*parts: list[RecentText]) -> list[RecentText]:
    found = [one for part in parts for one in part]
    random.Random(1).shuffle(found)
    return found


KNOWN = texts(_SUBJECTS, _ENDS, doubtful=False)
HARD = texts(("возврат",), ("не оформлен", "ждёт решения", "не пришёл"), doubtful=True)
SIM = ("симка", "сим карта")
LOST = ("сломалась", "размагнитилась", "не читается телефоном")


def test_what_is_new_stands_before_what_was_there() -> None:
    found = stream(KNOWN, HARD, texts(SIM, LOST, doubtful=True, before=0))
    groups = find_groups(found)
    first = [found[place].text for place in groups[0].members]
    assert all("сим" in text for text in first)
    assert groups[0].before == 0
    assert groups[0].now == len(first)
    assert [one.score for one in groups] == sorted((one.score for one in groups), reverse=True)


def test_without_a_window_before_what_is_like_nothing_certain_stands_first() -> None:
    found = [one._replace(before=0) for one in stream(KNOWN, HARD, texts(SIM, LOST, doubtful=True))]
    assert all("сим" in found[place].text for place in find_groups(found)[0].members)
    # Nothing is certain, as after the first day: the groups are told all the same.
    doubtful = [one._replace(doubtful=True) for one in found]
    groups = find_groups(doubtful)
    assert groups
    assert all(one.score > 0 for one in groups)


def test_a_group_counts_its_rows_and_not_its_texts() -> None:
    found = stream(KNOWN, texts(SIM, LOST, doubtful=True, now=7, before=2))
    group = find_groups(found)[0]
    assert (group.now, group.before) == (7 * len(group.members), 2 * len(group.members))


def test_something_new_that_the_model_is_sure_of_is_found_too() -> None:
    known = [one._replace(text=f"{one.text} {word}") for word in ("срочно", "вчера") for one in KNOWN]
    sure = texts(SIM, LOST, doubtful=False, before=0)
    found = stream(known, sure)
    novel = [found[place].text for place in novel_texts(found)]
    assert set(novel) == {one.text for one in sure}
    assert "сим" in found[find_groups(found)[0].members[0]].text


@pytest.mark.parametrize("count", [0, 1, 3, 9, 40])
def test_few_or_equal_texts_are_no_fault(count: int) -> None:
    same = [RecentText("алло", "other", None, str(n), 1, 0, True) for n in range(count)]
    assert len(find_groups(same)) <= 1
    different = [RecentText(chr(0x4E00 + n), "other", None, str(n), 1, 0, True) for n in range(count)]
    find_groups(different)
