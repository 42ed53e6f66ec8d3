"""The cost of a replay, estimated without publishing anything (`--dry-run`)."""

from __future__ import annotations

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
_ANSWER_TOKENS = {"choice": 1, "json": 12}


class DistinctTexts:
    """How many texts there are, and of how many characters in all: each counts once.

    Exact up to _KEPT of them. Of more, those with the least digests are kept: how close these lie to each
    other tells how many there are, within a percent or two.
    """

    def __init__(self) -> None:
        self._kept: dict[int, int] = {}  # characters by digest
        self._largest: list[int] = []  # a heap of the negated digests

    def add(self, text: str, characters: int) -> None:
        """Add a text. ``characters``: what its call costs."""
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

    @property
    def characters(self) -> int:
        """Of all of them."""
        return sum(self._kept.values()) * self.count // max(1, len(self._kept))


async def estimate(context: JobContext, job: Job, spec: LabelSpec | None) -> dict[str, Any]:
    """``rows`` to be labelled, ``settled`` (labelled already), ``distinct_texts``, ``calls`` of the model as
    CASCADE is set, ``calls_without_cascade`` and ``calls_with_cascade`` (an estimate, with CASCADE=on),
    ``input_tokens`` and ``output_tokens`` (rough), ``rate`` (calls a second in the busiest minute of the last
    day) and ``seconds`` at that rate; the last two are null without a rate.

    Raises:
        UnavailableError, AccessError, ConfigurationError.
    """
    feed = await open_row_source(context, job)
    chosen = in_sample(job.sample)
    rows = settled = 0
    texts = DistinctTexts()
    async for page in feed.pages(None):
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
    prompt = 0
    if spec is not None:
        prompt = len(spec.prompts[_deciding(spec)]) + len(str(spec.taxonomy))
    rate = await busiest_minute(context.client, context.settings)
    every, characters = texts.count, texts.characters
    state = None
    if job.version is not None:
        state = (await read_versions(context.settings)).cascade_of(job.version)
    fewer = calls_with_cascade(every, state)
    calls = fewer if context.settings.cascade == "on" else every
    characters = characters * calls // max(1, every)
    return {
        "rows": rows,
        "settled": settled,
        "distinct_texts": every,
        "calls": calls,
        "calls_without_cascade": every,
        "calls_with_cascade": fewer,
        "input_tokens": round((calls * prompt + characters) / _CHARACTERS_A_TOKEN),
        "output_tokens": calls * _ANSWER_TOKENS[spec.mode if spec is not None else "json"],
        "rate": rate,
        "seconds": calls / rate if rate else None,
    }


def _deciding(spec: LabelSpec) -> str:
    return "choice" if spec.mode == "choice" else "label"
