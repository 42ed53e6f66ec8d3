"""Compares the tables with what people decided."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.gold import human_answers
from streams.core.settings import Settings
from streams.ports.review import AUDIT, TAKEN_BACK, UNSURE, HumanAnswer
from streams.quality.audit import draw_rows
from tests.faults.ledger import read_topic
from tests.faults.review.people import Asked, People
from tests.faults.world import World
from tests.waiting import Stalled, Watch

AGAIN = "again"  # the version of the replay


@dataclass(frozen=True, order=True)
class Decision:
    """A message of a person's label, newest last."""

    labeled_at: datetime
    offset: int
    place: tuple[int, int] = field(compare=False)
    published_at: int = field(compare=False)
    asked: Asked = field(compare=False)
    label: str = field(compare=False)
    undone: bool = field(compare=False)
    probability: float | None = field(compare=False)


async def verdict(
    parts: World,
    name: str,
    people: People,
    settings: Settings,
    *,
    migrated_at: float,
    keep_running: Callable[[], None],
) -> list[str]:
    """What is not as it was decided, once all is stored; empty if nothing.

    ``migrated_at``: the time from which each decision must be a row, milliseconds since 1970.
    ``keep_running`` starts sinks that a fault has ended.
    """
    published = await _published(parts, name)
    watch = Watch("every decision is stored")
    while True:
        # The replay's come from another topic.
        sql = f"SELECT _partition, _offset FROM {name}.logs_labeled WHERE label_version != '{AGAIN}'"
        stored = Counter(await parts.query(sql))
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
    wrong += await _not_current(parts, name, published)
    decisions = [one for some in published.values() for one in some]
    wrong += _not_published(people, decisions, await _without_labels(parts, name))
    async with ClickHouseClient.from_settings(settings) as client:
        answers = [one async for one in human_answers(client, settings)]
        draw = await draw_rows(client, settings, datetime.now(UTC), len(people.drawn) + 1)
    drawn = {one.place.row_id: one.probability for one in draw.rows} if draw else {}
    if drawn != dict.fromkeys(people.drawn, people.share):
        wrong.append(f"drawn are {sorted(drawn)}, and were {sorted(people.drawn)}")
    # Tables of 0.1.0 keep one label of a row: of those only the last decision is looked for, above.
    early = {one.asked.row_id for one in decisions if one.published_at < migrated_at}
    return wrong + _not_told(people, answers, early)


async def _not_current(parts: World, name: str, published: Mapping[str, Sequence[Decision]]) -> list[str]:
    current = {
        row: (label, model.endswith(":undo"))
        for row, label, model in await parts.query(
            f"SELECT row_id, toString(label), toString(model) FROM {name}.logs_labeled_current "
            "WHERE label_version = 'human'"
        )
    }
    last = {row: (decisions[-1].label, decisions[-1].undone) for row, decisions in published.items()}
    return [
        f"row {row} has {current.get(row)}, the last decision is {last.get(row)}"
        for row in sorted(last.keys() | current.keys())
        if current.get(row) != last.get(row)
    ]


def _not_published(
    people: People, decisions: Sequence[Decision], others: Mapping[Asked, tuple[datetime, str]]
) -> list[str]:
    """Confirmed answers that are not the last ones, and answers of another queue than their row's."""
    last: dict[Asked, tuple[datetime, str]] = {}
    for one in sorted(decisions):
        last[one.asked] = (one.labeled_at, TAKEN_BACK if one.undone else one.label)
    for asked, told in others.items():
        last[asked] = max(last.get(asked, told), told)
    wrong = []
    for asked, said in people.said.items():
        _, found = last.get(asked, (None, None))
        if said and said[-1] is not None and found != said[-1]:
            wrong.append(f"{asked}: {said[-1]} was confirmed, the last answer is {found}")
    for one in decisions:
        queue, drawn = one.asked.queue, one.asked.row_id in people.drawn
        if one.probability != (people.share if drawn else None) or drawn != (queue != UNSURE):
            wrong.append(f"{one.asked}: drawn with {one.probability}")
    return wrong


def _not_told(people: People, answers: Iterable[HumanAnswer], early: Collection[str]) -> list[str]:
    """Answers that the product does not know as confirmed, once each, and people too many or too few; but of
    the rows ``early``.
    """
    told: dict[Asked, list[str]] = defaultdict(list)
    audited: Counter[str] = Counter()
    for one in answers:
        if one.row_id in early:
            continue
        told[Asked(one.row_id, one.who, one.drawn_by or "")].append(one.label or one.answer)
        audited[one.row_id] += one.drawn_by == AUDIT
    wrong = [f"{asked}: stands as {some}" for asked, some in told.items() if len(some) > 1]
    for asked, said in people.said.items():
        if said and said[-1] is not None and asked.row_id not in early:
            wanted = [] if said[-1] == TAKEN_BACK else [said[-1]]
            if told.get(asked, []) != wanted:
                wrong.append(f"{asked}: {said[-1]} was confirmed, {told.get(asked)} stands")
    # Where a process died while an answer was given or taken back, the row may be offered once more.
    cut = Counter(asked.row_id for asked, said in people.said.items() if None in said)
    for row in people.drawn:
        wanted = 1 + (row in people.for_two)
        if not wanted <= audited[row] <= wanted + cut[row]:
            wrong.append(f"row {row} was audited by {audited[row]} people")
    return wrong


async def _without_labels(parts: World, name: str) -> dict[Asked, tuple[datetime, str]]:
    """The last answer without a label of each, with its time."""
    return {
        Asked(row, who, queue): (at.replace(tzinfo=UTC), answer)
        for row, who, queue, at, answer in await parts.query(
            "SELECT row_id, toString(who), toString(drawn_by), max(answered_at), "
            f"toString(argMax(answer, answered_at)) FROM {name}.review_answers "
            "GROUP BY row_id, who, drawn_by"
        )
    }


async def _published(parts: World, name: str) -> dict[str, list[Decision]]:
    """The decisions about each row that were published, the newest last."""
    found: dict[str, list[Decision]] = {}
    for message in await read_topic(parts, f"{name}.labeled", "read_uncommitted"):
        value = json.loads(message.value)
        if value["label_version"] == "human":
            _, person, *undone = value["model"].split(":")
            decision = Decision(
                datetime.fromisoformat(value["labeled_at"]),
                message.offset,
                (message.partition, message.offset),
                message.timestamp,
                Asked(value["row_id"], person, value["drawn_by"]),
                value["label"],
                bool(undone),
                value["draw_probability"],
            )
            found.setdefault(value["row_id"], []).append(decision)
    return {row: sorted(decisions) for row, decisions in found.items()}
