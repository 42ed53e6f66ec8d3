"""The cost of a replay, estimated without publishing anything (`--dry-run`)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from hashlib import blake2b
from heapq import heappush, heapreplace
from typing import Any

from connectors.clickhouse.queries.labelled_rows import busiest_minute, labelled
from streams.core.label_version import LabelSpec
from streams.core.topics import normalise
from streams.jobs.context import JobContext
from streams.jobs.job import Job
from streams.jobs.runner import open_row_source
from streams.jobs.saved_calls import calls_with_cascade
from streams.jobs.sources import in_sample
from streams.versions.registry import read_versions

# Cyrillic text in the vocabularies of Qwen and Mistral: a rough estimate, and reported as such.
_CHARACTERS_A_TOKEN = 2.5
_KEPT = 16_384
# So many rows are looked at, however long that takes, and more for so long; the rest is estimated.
_LEAST_ROWS, _SECONDS = 10_000, 1.0
_ANSWER_TOKENS = {"choice": 1, "json": 12}


class DistinctTexts:
    """How many texts there are, and of how many characters in all: each counts once.

    Exact up to _KEPT of them. Of more, those with the least digests are kept: how close these lie to each
    other tells how many there are, within a percent or two.
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}  # characters by digest
        self._largest: list[int] = []  # a heap of the negated digests
        self._added, self._doubled = 0, [(0, 0)]  # rows, and texts of the first 1, 2, 4, 8, ...

    def add(self, text: str, characters: int) -> None:
        """Add a row's text. ``characters``: what its call costs."""
        self._add(text, characters)
        self._added += 1
        if self._added >= 2 * self._doubled[-1][0]:
            self._doubled.append((self._added, self.count))

    def _add(self, text: str, characters: int) -> None:
        content = blake2b(text.encode("utf-8", "replace"), digest_size=8).digest()
        digest = int.from_bytes(content, "big")
        if digest in self._kept:
            return
        if len(self._kept) < _KEPT:
            heappush(self._largest, -digest)
        elif digest < -self._largest[0]:
            del self._kept[-heapreplace(self._largest, -digest)]
        else:
            return
        self._kept[digest] = characters

    @property
    def count(self) -> int:
        """How many there are."""
        if len(self._kept) < _KEPT:
            return len(self._kept)
        return round((_KEPT - 1) * 2**64 / -self._largest[0])

    def among(self, rows: int) -> int:
        """About how many there are among ``rows`` rows of which those that were added are the first: texts
        become more as a power of the rows (Heaps, Information Retrieval, 1978).
        """
        if rows <= self._added or not self._added:
            return self.count
        half, texts = next(mark for mark in reversed(self._doubled) if 2 * mark[0] <= self._added)
        power = math.log(self.count / texts) / math.log(self._added / half) if half else 1.0
        grown = math.pow(rows / self._added, min(1.0, max(0.0, power)))
        return min(rows, round(self.count * grown))

    @property
    def characters(self) -> float:
        """Of one of them, on average."""
        return sum(self._kept.values()) / max(1, len(self._kept))


async def estimate(
    context: JobContext,
    job: Job,
    spec: LabelSpec | None,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Any]:
    """``rows`` to be labelled, ``settled`` (labelled already), ``distinct_texts``, ``calls`` of the model as
    CASCADE is set, ``calls_without_cascade`` and ``calls_with_cascade`` (an estimate, with CASCADE=on),
    ``input_tokens`` and ``output_tokens`` (rough), ``rate`` (calls a second in the busiest minute of the last
    day) and ``seconds`` at that rate; the last two are null without a rate. ``looked_at``: so many rows were
    read. If there are more, ``rows``, ``settled`` and ``distinct_texts`` are estimated by them.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    # In one pass: the order of time, in which texts become more as they will.
    feed = await open_row_source(context, job.model_copy(update={"passes": 1}))
    chosen = in_sample(job.sample)
    there, began = await feed.count(), clock()
    rows = settled = read = 0
    texts = DistinctTexts()
    async for page in feed.pages(None):
        read += len(page.items) + page.settled + page.skipped + page.unreadable + len(page.letters)
        items = [item for item in page.items if chosen(item)]
        if job.version is not None and not job.repeats and items:
            keys = [(item.row_id, item.micros) for item in items]
            known = await labelled(context.client, context.settings, job.version, keys)
            settled += sum(key in known for key in keys)
            items = [item for item, key in zip(items, keys, strict=True) if key not in known]
        settled += page.settled
        if job.limit is not None:
            items = items[: job.limit - rows]
        for item in items:
            texts.add(normalise(item.text), len(item.text))
        rows += len(items)
        if job.limit is not None and rows >= job.limit:
            break
        if there > read >= _LEAST_ROWS and clock() - began > _SECONDS:
            found, rows = rows, round(rows * there / read)
            rows = rows if job.limit is None else min(rows, job.limit)
            settled = round(settled * (rows / found if found else there / read))
            break
    prompt = 0
    if spec is not None:
        prompt = len(spec.prompts[_deciding(spec)]) + len(str(spec.taxonomy))
    rate = await busiest_minute(context.client, context.settings)
    every = texts.among(rows)
    state = None
    if job.version is not None:
        state = (await read_versions(context.settings)).cascade_of(job.version)
    fewer = calls_with_cascade(every, state)
    calls = fewer if context.settings.cascade == "on" else every
    return {
        "looked_at": read,
        "rows": rows,
        "settled": settled,
        "distinct_texts": every,
        "calls": calls,
        "calls_without_cascade": every,
        "calls_with_cascade": fewer,
        "input_tokens": round(calls * (prompt + texts.characters) / _CHARACTERS_A_TOKEN),
        "output_tokens": calls * _ANSWER_TOKENS[spec.mode if spec is not None else "json"],
        "rate": rate,
        "seconds": calls / rate if rate else None,
    }


def _deciding(spec: LabelSpec) -> str:
    return "choice" if spec.mode == "choice" else "label"
