"""What a topic is made with, and what is said of one that was made in another way."""

from __future__ import annotations

from uuid import UUID

import pytest

from connectors.kafka.admin import FoundTopic, other_compression, topic_config
from streams.core.settings import Settings
from streams.core.topics import Topics


def found(**config: str) -> FoundTopic:
    return FoundTopic(
        "esk.labeled", UUID(int=1), 8, {key.replace("_", "."): one for key, one in config.items()}
    )


def test_every_topic_is_made_so_that_brokers_keep_what_they_get() -> None:
    for topic in Topics("esk").all():
        config = topic_config(topic, Settings(), 3)
        assert not other_compression(FoundTopic(topic.name, UUID(int=1), 8, config))


@pytest.mark.parametrize("kind", ["uncompressed", "gzip", "lz4", "snappy"])
def test_names_a_topic_that_is_compressed_again(kind: str) -> None:
    assert f"esk.labeled has compression.type={kind}" in other_compression(found(compression_type=kind))


def test_one_of_an_older_release_is_as_good() -> None:
    """Kafka's default keeps what the producers made."""
    assert not other_compression(found(compression_type="producer"))
    assert not other_compression(found())
