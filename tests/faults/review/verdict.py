"""Compares the tables with what people decided."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.faults.ledger import read_topic
from tests.faults.world import World
from tests.waiting import Stalled, Watch


@dataclass(frozen=True, order=True)
class Decision:
    """A message of a person's label, newest last."""

    labeled_at: datetime
    offset: int
    place: tuple[int, int] = field(compare=False)
    published_at: int = field(compare=False)
    label: str = field(compare=False)
    undone: bool = field(compare=False)


async def verdict(
    parts: World,
    name: str,
    confirmed: Mapping[str, Sequence[tuple[str, bool] | None]],
    answered: Mapping[tuple[str, str], str | None],
    *,
    migrated_at: float,
    keep_running: Callable[[], None],
) -> list[str]:
    """What is not as it was decided, once all is stored; empty if nothing.

    ``confirmed``: for each row what its reviewers were answered, in order, as (label, taken back); None where
    the answer was lost. ``answered``: the last answer without a label of each row and person that was
    confirmed, None where nobody knows. ``migrated_at``: the time from which each decision must be a row,
    milliseconds since 1970. ``keep_running`` starts sinks that a fault has ended.
    """
    published = await _published(parts, name)
    watch = Watch("every decision is stored")
    while True:
        stored = Counter(await parts.query(f"SELECT _partition, _offset FROM {name}.logs_labeled"))
        wanted = {
            one.place
            for decisions in published.values()
            for one in decisions
            if one is decisions[-1] or one.published_at >= migrated_at
        }
        try:
            watch.look(len(stored))
        except Stalled:
            break
        if wanted <= stored.keys():
            break
        keep_running()
        await asyncio.sleep(0.5)
    wrong = [f"{place} is not in the table" for place in sorted(wanted - stored.keys())]
    wrong += [f"{place} is {count} times in the table" for place, count in stored.items() if count > 1]
    current = {
        row: (label, model.endswith(":undo"))
        for row, label, model in await parts.query(
            f"SELECT row_id, toString(label), toString(model) FROM {name}.logs_labeled_current "
            "WHERE label_version = 'human'"
        )
    }
    last = {row: (decisions[-1].label, decisions[-1].undone) for row, decisions in published.items()}
    for row in sorted(last.keys() | current.keys()):
        if current.get(row) != last.get(row):
            wrong.append(f"row {row} has {current.get(row)}, the last decision is {last.get(row)}")
    for row, said in confirmed.items():
        if said and said[-1] is not None and last.get(row) != said[-1]:
            wrong.append(f"row {row}: {said[-1]} was confirmed, {last.get(row)} was published last")
    told = {
        (row, who): answer
        for row, who, answer in await parts.query(
            "SELECT row_id, toString(who), toString(argMax(answer, answered_at)) "
            f"FROM {name}.review_answers GROUP BY row_id, who"
        )
    }
    for asked, answer in answered.items():
        if answer is not None and told.get(asked) != answer:
            wrong.append(f"{asked}: {answer} was confirmed, {told.get(asked)} is stored")
    return wrong


async def _published(parts: World, name: str) -> dict[str, list[Decision]]:
    """The decisions about each row that were published, the newest last."""
    found: dict[str, list[Decision]] = {}
    for message in await read_topic(parts, f"{name}.labeled", "read_uncommitted"):
        value = json.loads(message.value)
        if value["label_version"] == "human":
            decision = Decision(
                datetime.fromisoformat(value["labeled_at"]),
                message.offset,
                (message.partition, message.offset),
                message.timestamp,
                value["label"],
                value["model"].endswith(":undo"),
            )
            found.setdefault(value["row_id"], []).append(decision)
    return {row: sorted(decisions) for row, decisions in found.items()}
