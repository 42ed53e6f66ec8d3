"""Numbers written in groups of digits, and which of them are personal.

A number is one or more neighbouring groups: ``8 (912) 345-67-89`` is a run of five. Each place of a run is
offered to the judges in every length that they know; the surest answer wins.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Protocol

from streams.privacy.entities import Entity
from streams.privacy.recognisers.findings import PersonalFinding
from streams.privacy.recognisers.views import BARRIER, View

_GROUP = re.compile("[0-9]+")
# What may stand between two groups of one number.
_GAP = re.compile(
    r"[ (),.\-/_*№·•∙⋅]{1,5}|[ ,.]{1,2}(?i:потом|затем|дальше|далее|тире|дефис|ещ[её])[ ,.:]{1,2}"
)
# Dates and internet addresses: their groups belong to no number.
_APART = re.compile(
    r"(?<![0-9])(?:[0-2]?[0-9]|3[01])([./-])(?:0?[0-9]|1[0-2])\1(?:19|20)[0-9]{2}(?![0-9])"
    r"|(?<![0-9])(?:[0-2][0-9]|3[01])\.(?:0[0-9]|1[0-2])\.[0-9]{2}(?![0-9])"
    r"|(?<![0-9.])(?:1?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])(?:\.(?:1?[0-9]?[0-9]|2[0-4][0-9]|25[0-5])){3}(?!\.?[0-9])"
)
_MOST_DIGITS = 34
_BEFORE, _AFTER, _BEHIND = 48, 28, 4
# A number that counts, costs or dates something is not personal.
_UNIT = re.compile(
    r" ?(?:руб|₽|\$|€|%|коп|тыс|млн|балл|бонус|квт|куб|гб|мб|кб|гиг|шт|дн[еяй]|день|сут|час|мин|секунд|"
    r"год|лет\b|мес|км\b|кг\b|usd|eur|[рмгтк]\b)"
)
# A word of ordinary numbers speaks for the number it stands beside: «заказ номер 123», «заказ: 123».
_BESIDE = re.compile(
    r"[а-яё]*[ :#№\-]{0,3}(?:(?:под|с|за|по) )?(?:номер[а-яё]*|ном|no|n|id|код[а-яё]*)?[ :#№.\-]{0,3}"
)
_CLOSE = re.compile(r"[^.!?;]{0,20}|[а-яё]*\. ?")
# The search tries few words where none begins.
_CONTEXT = re.compile(
    r"(?:\b|(?=звон|whats ?app|в[ао]тс?апп?|вайбер|viber))(?:"
    r"(?P<phone>тел\b|телефон|моб|сотов|звон|на связи|whats ?app|в[ао]тс?апп?|вайбер|viber|"
    r"мой номер|номер мой|номера? (?:телефона|для связи))"
    r"|(?P<card>карт(?!ин|оф|ридж)[а-яё]*)"
    r"|(?P<passport>пас+п(?:орт|\.)|сери[яиюей]\b|загран|\bводительск|стс\b)"
    r"|(?P<snils>снилс|страхов\w+ (?:номер|свидетельств))"
    r"|(?P<inn>инн\b)"
    r"|(?P<oms>полис|омс\b|енп\b)"
    r"|(?P<account>лицев|сч[её]т(?![чик])|р/с|к/с|л/с|лс\b|iban\b|р[./]?сч|расч[её]тн)"
    r"|(?P<ordinary>заказ|заявк|обращени|договор|трек|накладн|артикул|чек|операц|транзакц|"
    r"инцидент|тикет|квитанц|уин\b|код|показани|сч[её]тчик|серийн|imei|верси|посылк|"
    r"отправлени|возврат|билет|ошибк|промокод|купон|id\b|орг?рн|бик\b|(?<!инн/)кпп\b|sn\b))"
)
_ORDINARY = "ordinary"
_KINDS = {entity.value: entity for entity in Entity}


@dataclass(frozen=True, slots=True)
class NumberCandidate:
    """One or more groups of digits that may be one number.

    ``context``: the entity whose word stands nearest before it, or soon after it; ``ordinary``: a word of
    numbers that belong to nobody does. ``close``: the word is in the same breath.
    ``before`` and ``after``: the text around it, in lower case.
    """

    digits: str
    groups: tuple[int, ...]
    gaps: str
    before: str
    after: str
    context: Entity | None
    ordinary: bool
    close: bool


class Judge(Protocol):
    """Decides whether a number is of one entity."""

    entity: Entity
    lengths: frozenset[int]

    def judge(self, number: NumberCandidate) -> int:
        """0: it is not; 1: it looks so; 2: by form, or by form and context; 3: certainly."""


def find_numbers(view: View, judges: Sequence[Judge]) -> Iterator[PersonalFinding]:
    """The personal numbers of a text, in its order. Steps grow with the text's length."""
    by_length = _by_length(tuple(judges))
    text = _APART.sub(lambda match: BARRIER * len(match[0]), view.text)
    contexts = _Contexts(view.lower)
    groups = [match.span() for match in _GROUP.finditer(text)]
    first = 0
    while first < len(groups):
        best: tuple[int, int, Entity] | None = None
        digits = ""
        for last in range(first, len(groups)):
            if last > first and not _GAP.fullmatch(text, groups[last - 1][1], groups[last][0]):
                break
            start, end = groups[last]
            if len(digits) + end - start > _MOST_DIGITS:
                break
            digits += view.text[start:end]
            asked = by_length.get(len(digits))
            if asked is None:
                continue
            candidate = _candidate(view, groups[first : last + 1], digits, contexts)
            if "," in candidate.gaps and candidate.context is None:
                continue  # a list
            spoken = any(char.isalpha() for char in candidate.gaps)
            if spoken and not _is_spoken_phone(candidate, text[groups[first][1] : groups[first + 1][0]]):
                continue
            for judge in asked:
                if spoken and judge.entity is not Entity.PHONE:
                    continue
                sure = judge.judge(candidate)
                if sure and (best is None or (sure, last) > best[:2]):
                    best = (sure, last, judge.entity)
        if best is None:
            first += 1
            continue
        _, last, entity = best
        start, end = _widen(view.text, groups[first][0], groups[last][1])
        key = "".join(view.text[slice(*group)] for group in groups[first : last + 1])
        yield PersonalFinding(
            *view.original(start, end), entity, key[-10:] if entity is Entity.PHONE else key
        )
        first = last + 1


@lru_cache
def _by_length(judges: tuple[Judge, ...]) -> dict[int, list[Judge]]:
    found: dict[int, list[Judge]] = {}
    for judge in judges:
        for length in judge.lengths:
            found.setdefault(length, []).append(judge)
    return found


class _Contexts:
    """The words that tell what a number is, found once in a text, if there may be a number."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _found(self) -> list[tuple[int, int, str | None]]:
        return [(match.start(), match.end(), match.lastgroup) for match in _CONTEXT.finditer(self._text)]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _, _ in self._found]

    def around(self, start: int, end: int) -> tuple[str | None, bool]:
        """The kind that the word for the number at ``start`` to ``end`` tells, and whether it is close."""
        kind, close = None, False
        at = bisect_left(self._starts, start) - 1
        while at >= 0 and self._starts[at] >= start - _BEFORE:
            _, word_end, found = self._found[at]
            if found != _ORDINARY or _BESIDE.fullmatch(self._text, word_end, start):
                kind, close = found, _CLOSE.fullmatch(self._text, word_end, start) is not None
                break
            at -= 1
        if close:
            return kind, close
        at = bisect_left(self._starts, end)
        while at < len(self._found) and self._starts[at] < end + _AFTER:
            if self._found[at][2] != _ORDINARY:
                near = self._starts[at] <= end + _BEHIND
                return (self._found[at][2] if kind is None or near else kind), close
            at += 1
        return kind, close


def _candidate(
    view: View, groups: Sequence[tuple[int, int]], digits: str, contexts: _Contexts
) -> NumberCandidate:
    start, end = groups[0][0], groups[-1][1]
    kind, close = contexts.around(start, end)
    return NumberCandidate(
        digits,
        tuple(end - start for start, end in groups),
        "".join(view.text[one[1] : two[0]] for one, two in pairwise(groups)),
        view.lower[max(0, start - _BEFORE) : start],
        view.lower[end : end + _AFTER],
        _KINDS.get(kind or ""),
        kind == _ORDINARY or _UNIT.match(view.lower, end) is not None,
        close,
    )


def _is_spoken_phone(number: NumberCandidate, gap: str) -> bool:
    """Whether the groups are said one after the other, as of a telephone number: 8 916 123 потом 45 67.
    ``gap``: the first one.
    """
    begins = number.context is Entity.PHONE or not any(char.isalpha() for char in gap)
    return begins and len(number.digits) in (10, 11)


def _widen(text: str, start: int, end: int) -> tuple[int, int]:
    """With the plus and the bracket that belong to the number."""
    if text[start - 1 : start] == "(" and ")" in text[start:end]:
        start -= 1
    if text[start - 1 : start] == "+":
        start -= 1
    return start, end
