"""The topics and who reads them."""

from __future__ import annotations

from streams.core.messages import Augmented, Labeled
from streams.core.topics import Topics


def test_the_groups_name_the_steps_as_the_messages_do() -> None:
    topics = Topics("esk")
    assert topics.groups.agents.name == "esk-agents"
    assert topics.groups.agents.step_of == {
        topics.rows: Labeled.made_by,
        topics.replay: Labeled.made_by,
        topics.labeled: Augmented.made_by,
    }
    assert topics.groups.sink.topics == (topics.labeled, topics.shadow, topics.augmented, topics.dead_letter)
