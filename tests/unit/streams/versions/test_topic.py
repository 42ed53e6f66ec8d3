"""Label versions as they travel on their topic, and what was dropped."""

from __future__ import annotations

import pytest

from streams.core.calibration import Method, VersionCalibration
from streams.core.codec import REPLAY_JOB
from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.versions.topic import KnownVersions, dropped_message

TOPICS = Topics("esk")


def received(message: Outgoing, offset: int = 0) -> Record:
    return Record(message.topic, 0, offset, 0, message.key, message.value, tuple(message.headers))


def spec(version: str = "v1", model: str = "m", prompt: str = "{domains}") -> LabelSpec:
    return LabelSpec(
        version=version, model=model, mode="json", prompts={"label": prompt}, taxonomy={"domains": []}
    )


def test_versions_travel_whole_and_what_others_wrote_is_left_out() -> None:
    known = KnownVersions()
    known.learn(Record("esk.versions", 0, 0, 0, b"v9", b"nonsense"))
    known.learn(received(spec("v2").message(TOPICS)))
    known.learn(Record("esk.versions", 0, 2, 0, b"other-key", spec("v3").message(TOPICS).value))
    assert list(known.specs) == ["v2"]
    assert known.specs["v2"].same_as(spec("v2"))
    assert known.specs["v2"].difference(spec("v2", model="n", prompt="x {domains}")) == "model, prompts"


def calibration(generation: int, method: Method = "temperature") -> VersionCalibration:
    return VersionCalibration(
        version="v1", generation=generation, method=method, rows=300, log_loss=0.4, log_loss_raw=0.9
    )


def test_the_newest_calibration_of_a_version_counts_in_whatever_order_they_are_read() -> None:
    known = KnownVersions()
    assert known.calibration_of("v1") is None
    for one in (calibration(2), calibration(1)):
        known.learn(received(one.message(TOPICS)))
    known.learn(Record("esk.versions", 0, 9, 0, b"calibration/v1/3", b"nonsense"))
    known.learn(Record("esk.versions", 0, 9, 0, b"calibration/v2/9", calibration(9).message(TOPICS).value))
    found = known.calibration_of("v1")
    assert found is not None
    assert (found.generation, sorted(known.calibrations["v1"])) == (2, [1, 2])
    assert known.calibration_of("v2") is None
    assert known.specs == {}
    known.learn(received(calibration(3, "raw").message(TOPICS)))
    assert known.calibration_of("v1") is None


def test_of_two_fits_of_one_generation_the_first_one_stands_after_compaction_too() -> None:
    first = calibration(1)
    second = first.model_copy(update={"temperature": 2.0})
    # Compaction leaves the last message of each key.
    log = {message.key: message for message in (one.message(TOPICS) for one in (first, second))}
    known = KnownVersions()
    for message in log.values():
        known.learn(received(message))
    assert known.calibration_of("v1") == first
    older = KnownVersions()
    older.learn(Record("esk.versions", 0, 0, 0, b"calibration/v1/1", second.message(TOPICS).value))
    assert older.calibration_of("v1") == second


def test_what_was_dropped_is_unwanted_and_its_name_used_up() -> None:
    known = KnownVersions()
    record = Record("esk.replay", 0, 0, 0, b"1", b"", ((REPLAY_JOB, b"job-1"),))
    assert not known.unwanted(record)
    known.learn(received(dropped_message(TOPICS, "job-1", "v2")))
    assert known.unwanted(record)
    assert not known.unwanted(Record("esk.replay", 0, 0, 0, b"1", b"", ((REPLAY_JOB, b"job-2"),)))
    assert not known.unwanted(Record("esk.rows", 0, 0, 0, b"1", b""))
    known.usable("v1")
    with pytest.raises(ConfigurationError, match="v2"):
        known.usable("v2")
