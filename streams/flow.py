"""The pipeline as data.

::

    source table --poll--> rows ----+
                                     >--label--> labeled --augment--> augmented
                           replay --+               +----- sink -----+----> tables
                           any step --> dead-letter ---------- sink -----> dead_letters

Live messages come first; replays, and dead letters that are tried again, use what they leave.
"""

from __future__ import annotations

from collections.abc import Callable

from streams.codec import MESSAGE_TYPE
from streams.messages import Augmented, Labeled, Row
from streams.outcomes import Step
from streams.ports import Record
from streams.stage import Flow, Route
from streams.topics import Topics


def agents_flow(
    topics: Topics,
    *,
    label: Step[Row, Labeled],
    label_version: str,
    augment: Step[Labeled, Augmented],
    recall: Callable[[Record], None] | None = None,
) -> Flow:
    """What the agents do with each message of their topics."""
    labelling = Route(Row, Labeled, label, topics.labeled, label_version)
    augmenting = Route(Labeled, Augmented, augment, topics.augmented)

    def route(record: Record) -> Route:
        retried = record.topic == topics.replay and record.header(MESSAGE_TYPE) == b"labeled"
        return augmenting if retried or record.topic == topics.labeled else labelling

    return Flow(
        inputs=(topics.rows, topics.labeled, topics.replay),
        outputs=(topics.labeled, topics.augmented),
        dead_letter=topics.dead_letter,
        route=route,
        replays=frozenset({topics.replay}),
        recall=recall,
    )


def sink_topics(topics: Topics) -> tuple[str, ...]:
    """What the sink stores."""
    return (topics.labeled, topics.shadow, topics.augmented, topics.dead_letter)
