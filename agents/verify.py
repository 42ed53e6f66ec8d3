"""Verify: label variants of drawn rows as their row was, and reject those with another label."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from streams.core.context import REPLAY, aside
from streams.core.label_version import HUMAN
from streams.core.messages import LABEL_CHANGED, Labeled, RejectedVariant, Row
from streams.core.outcomes import Done, Reject, Retry, Step

# A row waits no longer than this for its variants' labels, and fewer seconds where it holds up others.
WAIT_SECONDS = 60.0
_LONGEST_PAUSE = 5.0
_LOOK_SECONDS = 0.02


class Verified(NamedTuple):
    """Variants with their row's label, the others, and how many calls to the model it took."""

    kept: list[str]
    rejected: list[RejectedVariant]
    calls: int


class Verifier:
    """Verifies the variants of some rows, behind everything else that is to be labelled.

    A variant is labelled exactly as its row was, under the same label version, so that only the text can
    make the difference. Where a person gave the row's label, the live version labels row and variant, and
    these two are compared: else a label that the model finds wrong would cost the row all its variants.

    ``counts``: `rows:RESULT`, which is `verified`, `late` (published unverified, because the answers took too
    long) or `unanswered` (the model gave some variant no label); of verified rows `variants:LABEL:RESULT`,
    which is `kept` or `changed`; `answers:SOURCE`, which is `call` or `cache`.
    """

    def __init__(
        self,
        label_as: Callable[[str], Step[Row, Labeled]],
        live: str,
        drawn: Callable[[Row], bool],
        *,
        room: Callable[[], int],
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """``label_as``: the label step of a version; its calls must not be shared with live rows, which would
        wait for them. ``live``: the live version. ``drawn``: whether a row's variants are to be verified.
        ``room``: how many variants may be labelled at a time now; the rest keep their order.
        """
        self.counts = Counter[str]()
        self._label_as = label_as
        self._live = live
        self._drawn = drawn
        self._room = room
        self._line = asyncio.Lock()  # passes in order
        self._asking = 0
        self._wait = wait_seconds

    async def verify(self, row: Labeled, variants: Sequence[str]) -> Verified | None:
        """None where the row is not drawn, or could not be verified in time: then all variants stay."""
        if not variants or not self._drawn(row):
            return None
        version = self._live if row.label_version == HUMAN else row.label_version
        others = version != row.label_version or row.decided_by != "llm"  # someone else gave the label
        texts = [*variants, row.text] if others else variants
        given = await aside(self._labels(row, texts, version), self._wait)
        if given is None or None in given.values():
            self.counts[f"rows:{'late' if given is None else 'unanswered'}"] += 1
            return None
        labels = {text: one.label for text, one in given.items() if one is not None}
        calls = sum(one is not None and not one.cached for one in given.values())
        wanted = labels[row.text] if others else row.label
        kept = [text for text in variants if labels[text] == wanted]
        changed = [text for text in variants if labels[text] != wanted]
        self.counts["rows:verified"] += 1
        self.counts[f"variants:{row.label}:kept"] += len(kept)
        self.counts[f"variants:{row.label}:changed"] += len(changed)
        return Verified(kept, [RejectedVariant(text=text, reason=LABEL_CHANGED) for text in changed], calls)

    async def _labels(self, row: Labeled, texts: Sequence[str], version: str) -> Mapping[str, Labeled | None]:
        """What ``version`` says to ``texts``; None where it gives no label."""
        REPLAY.set(True)  # in the task of these labels alone: they use what live rows leave
        step = self._label_as(version)
        async with asyncio.TaskGroup() as group:
            tasks = {text: group.create_task(self._label(step, row, text)) for text in dict.fromkeys(texts)}
        return {text: task.result() for text, task in tasks.items()}

    async def _label(self, step: Step[Row, Labeled], row: Labeled, text: str) -> Labeled | None:
        known = {name: getattr(row, name) for name in Row.model_fields}
        asked = Row.made(**(known | {"text": text}))
        pause = 0.2
        while True:
            async with self._line:
                while self._asking >= self._room():  # noqa: ASYNC110 - what there is room for tells nobody
                    await asyncio.sleep(_LOOK_SECONDS)
                self._asking += 1
            try:
                outcome = await step(asked)
            finally:
                self._asking -= 1
            if isinstance(outcome, Done):
                self.counts["answers:cache" if outcome.message.cached else "answers:call"] += 1
                return outcome.message
            if isinstance(outcome, Reject):
                return None
            assert isinstance(outcome, Retry)
            pause = min(max(pause * 2, outcome.after), max(_LONGEST_PAUSE, outcome.after))
            await asyncio.sleep(pause)
