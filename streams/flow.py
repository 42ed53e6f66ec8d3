"""The pipeline as data.

::

    source table --poll--> rows ----+
                                     >--label--> labeled --augment--> augmented
                           replay --+               +----- sink -----+----> tables
                           any step --> dead-letter ---------- sink -----> dead_letters
"""

from __future__ import annotations

from streams.delivery import Stage
from streams.messages import Labeled, Row
from streams.topics import Topics


def label_stage(topics: Topics) -> Stage:
    """Rows become labelled rows. Live rows first; replays use what they leave."""
    return Stage(
        name="label",
        inputs=(topics.rows, topics.replay),
        output=topics.labeled,
        dead_letter=topics.dead_letter,
        reads=Row,
    )


def augment_stage(topics: Topics) -> Stage:
    """Labelled rows get variants."""
    return Stage(
        name="augment",
        inputs=(topics.labeled,),
        output=topics.augmented,
        dead_letter=topics.dead_letter,
        reads=Labeled,
    )


def sink_topics(topics: Topics) -> tuple[str, ...]:
    """What the sink stores."""
    return (topics.labeled, topics.shadow, topics.augmented, topics.dead_letter)
