"""Replaces the personal data of a text by typed placeholders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from streams.privacy.entities import PLACEHOLDER, Entity, placeholder, placeholder_at
from streams.privacy.recognisers.accounts import Accounts, find_ibans
from streams.privacy.recognisers.addresses import Addresses
from streams.privacy.recognisers.cards import Cards
from streams.privacy.recognisers.documents import HealthInsurance, Inn, Passports, Snils, find_passports
from streams.privacy.recognisers.email import find_emails
from streams.privacy.recognisers.findings import PersonalFinding, without_overlaps
from streams.privacy.recognisers.names import PersonNames
from streams.privacy.recognisers.numbers import Judge, find_numbers
from streams.privacy.recognisers.phone import Phones
from streams.privacy.recognisers.plates import find_plates
from streams.privacy.recognisers.spoken_digits import read_words
from streams.privacy.recognisers.views import View, fold, read_digits

_DIGIT = re.compile("[0-9]")
# Of a plate; zeros may be letters.
_THREE_DIGITS = re.compile("[0-9OoОо] ?[0-9] ?[0-9OoОо]|[0-9OoОо] ?[OoОо] ?[0-9]|[0-9] ?[OoОо] ?[OoОо]")
_FIVE_DIGITS = re.compile("[0-9](?:[^0-9]{0,8}[0-9]){4}")
# Where two are equally sure, the first decides.
_JUDGES: tuple[type[Judge], ...] = (Snils, Inn, HealthInsurance, Passports, Accounts, Cards, Phones)
# Placeholders may complete a context that was not there before; a text settles in two rounds.
_MOST_ROUNDS = 8


@dataclass(frozen=True)
class Masked:
    """``text`` with placeholders; ``counts``: how many were put in, by entity."""

    text: str
    counts: dict[Entity, int] = field(default_factory=dict)


class Masker:
    """Masks ``entities`` in texts; the same text is masked in the same way, and a masked text not again.

    Two numbers of a kind, or two persons, get placeholders of different numbers.
    """

    def __init__(self, entities: frozenset[Entity]) -> None:
        self._entities = entities
        self._judges = [judge() for judge in _JUDGES if judge.entity in entities]
        self._addresses = Addresses() if Entity.ADDRESS in entities else None
        self._names = PersonNames() if Entity.NAME in entities else None

    def mask(self, text: str) -> Masked:
        """``text`` without its personal data. A recogniser's error is the caller's."""
        counts: Counter[Entity] | None = None
        for _ in range(_MOST_ROUNDS):
            found = list(self._find(text))
            findings = without_overlaps(text, found) if found else found
            if not findings:
                break
            counts = Counter() if counts is None else counts
            counts.update(finding.entity for finding in findings)
            text = _replace(text, findings)
        return Masked(text, dict(counts or {}))

    def _find(self, text: str) -> Iterator[PersonalFinding]:
        view = fold(text)
        if Entity.EMAIL in self._entities:
            yield from find_emails(view)
        numbers = read_words(view)
        if Entity.PLATE in self._entities and _THREE_DIGITS.search(numbers.text):
            yield from find_plates(numbers)
        if _FIVE_DIGITS.search(numbers.text):
            yield from self._find_numbers(view, numbers)
        if self._addresses and _DIGIT.search(numbers.text):
            yield from self._addresses.find(numbers)
        if self._names:
            yield from self._names.find(view)

    def _find_numbers(self, view: View, numbers: View) -> Iterator[PersonalFinding]:
        if Entity.ACCOUNT in self._entities:
            yield from find_ibans(view)
        numbers = read_digits(numbers)
        if Entity.PASSPORT in self._entities:
            yield from find_passports(numbers)
        yield from find_numbers(numbers, self._judges)


def _replace(text: str, findings: list[PersonalFinding]) -> str:
    """``text`` with placeholders for ``findings``, which are in its order and do not overlap."""
    taken: Counter[Entity] = Counter()  # the highest number of a placeholder that the text holds already
    for match in PLACEHOLDER.finditer(text):
        entity, number = placeholder_at(match)
        taken[entity] = max(taken[entity], number)
    numbers: dict[Entity, dict[str, int]] = {}
    for finding in findings:
        known = numbers.setdefault(finding.entity, {})
        known.setdefault(finding.key, taken[finding.entity] + len(known) + 1)
    parts: list[str] = []
    done = 0
    for finding in findings:
        known = numbers[finding.entity]
        alone = len(known) == 1 and not taken[finding.entity]
        parts += (
            text[done : finding.start],
            placeholder(finding.entity, None if alone else known[finding.key]),
        )
        done = finding.end
    return "".join([*parts, text[done:]])
