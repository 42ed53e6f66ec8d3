"""The pipeline as data.

::

    source table --poll--> rows ----+
                                     >--label--> labeled --augment--> augmented
                           replay --+               +----- sink -----+----> tables
                                   (or, as a trial, --label--> shadow -----> tables)
                           any step --> dead-letter ---------- sink -----> dead_letters

Live messages come first; replays, and retried dead letters, use the capacity that they leave.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from streams.core.codec import LABEL_VERSION, MESSAGE_TYPE, RECOVERED, REPLAY_JOB, TO
from streams.core.messages import Augmented, Labeled, Row
from streams.core.outcomes import Step
from streams.core.records import Record
from streams.core.topics import Topics
from streams.delivery.routes import Flow, Route

SHADOW = "shadow"  # the target of a replay's labels, if not `labeled`


def agents_flow(
    topics: Topics,
    *,
    label: Step[Row, Labeled],
    label_version: str,
    augment: Step[Labeled, Augmented],
    label_as: Callable[[str], Step[Row, Labeled]] | None = None,
    model_as: Callable[[str], Step[Row, Labeled]] | None = None,
    recall: Callable[[Record], None] | None = None,
    unwanted: Callable[[Record], bool] = lambda record: False,
    erased: Callable[[Row], bool] = lambda row: False,
) -> Flow:
    """How the agents process each message of their topics.

    ``label_as``: the label step of another version, for replays; ``model_as``: the one in which no proxy
    labels, for rows whose label of that version is to be made anew. ``unwanted``, ``erased`` as in `Flow`.
    """
    labelling = Route(Row, Labeled, label, topics.labeled, label_version)
    augmenting = Route(Labeled, Augmented, augment, topics.augmented)

    @lru_cache(maxsize=256)
    def relabelling(version: str, to: str, anew: bool) -> Route:
        if anew and model_as is not None:
            step = model_as(version)
        else:
            step = label if version == label_version or label_as is None else label_as(version)
        return Route(Row, Labeled, step, topics.shadow if to == SHADOW else topics.labeled, version)

    def route(record: Record) -> Route:
        if record.topic != topics.replay:
            return augmenting if record.topic == topics.labeled else labelling
        if record.header(MESSAGE_TYPE) == b"labeled":  # a retried dead letter of the augment step
            return augmenting
        version = record.header(LABEL_VERSION)
        if not version:
            return labelling
        to = record.header(TO) or SHADOW.encode()
        anew = record.header(RECOVERED) is not None and record.header(RECOVERED) == record.header(REPLAY_JOB)
        return relabelling(version.decode("utf-8", "replace"), to.decode("utf-8", "replace"), anew)

    return Flow(
        # Replays last: the inputs are ordered from the most urgent to the least.
        inputs=tuple(sorted(topics.groups.agents.topics, key=lambda topic: topic == topics.replay)),
        outputs=(topics.labeled, topics.shadow, topics.augmented),
        dead_letter=topics.dead_letter,
        route=route,
        replays=frozenset({topics.replay}),
        recall=recall,
        unwanted=unwanted,
        erased=erased,
    )
