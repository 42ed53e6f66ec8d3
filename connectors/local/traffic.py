"""Queries as in a contact centre: the shipped ones first, then repeats by a Zipf distribution, in bursts."""

from __future__ import annotations

import csv
import random
from collections.abc import Iterator
from importlib import resources
from typing import NamedTuple

# Of the queries after the shipped ones, this share has new wording.
_FRESH = 0.25
_EXPONENT = 1.1
_OPENINGS = ("Здравствуйте! ", "Добрый день, ", "Скажите пожалуйста: ", "Помогите, ", "Срочно! ")
_CLOSINGS = ("", " Спасибо", " Жду ответа", " Пишу второй раз")


class SampleQuery(NamedTuple):
    """A query's text and its domain in the source table."""

    text: str
    domain: str | None


def shipped_queries() -> list[SampleQuery]:
    """The 360 queries in the package."""
    text = resources.files("connectors.local").joinpath("data/queries.csv").read_text("utf-8")
    return [SampleQuery(row["query_text"], row["domain"]) for row in csv.DictReader(text.splitlines())]


def queries(seed: int = 1) -> Iterator[SampleQuery]:
    """An endless sequence of queries, the same for the same ``seed``."""
    chance = random.Random(seed)
    known = shipped_queries()
    yield from known
    weights = [1 / rank**_EXPONENT for rank in range(1, len(known) + 1)]
    number = 1000
    while True:
        query = chance.choices(known, weights)[0]
        if chance.random() < _FRESH:
            number += 1
            opening, closing = chance.choice(_OPENINGS), chance.choice(_CLOSINGS)
            query = SampleQuery(f"{opening}{query.text} (обращение {number}){closing}", query.domain)
        yield query


def bursts(rate: float, seed: int = 1) -> Iterator[tuple[float, int]]:
    """Pauses in seconds, and the number of queries after each; ``rate`` a second on average."""
    chance = random.Random(seed)
    while True:
        pause = chance.expovariate(2.0)
        # One interval in ten is a burst of five times the rate.
        factor = 5.0 if chance.random() < 0.1 else 0.56
        yield pause, max(1, round(rate * pause * factor))
