"""The versions topic: how each label version asks, how it is calibrated, and which replays were dropped.

Compacted. The key of a version is its name; that of a dropped replay is ``job/<id>``, so that its messages
which are still on the replay topic, or come from there, are skipped; that of a calibration is
``calibration/<version>/<generation>/<digest>``; those of cascades are in `streams.core.cascade`, of drift in
`streams.drift.checkpoint`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
from pydantic import ValidationError

from streams.core.calibration import CALIBRATION, VersionCalibration
from streams.core.cascade import CascadeState
from streams.core.codec import REPLAY_JOB
from streams.core.errors import ConfigurationError
from streams.core.label_version import HUMAN, LabelSpec
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics
from streams.drift.checkpoint import KnownDrift
from streams.versions.cascades import KnownCascades

_JOB = "job/"
_LONGEST_NAME = 100  # characters of a version's name, as in `LABEL_VERSION`


def dropped_message(topics: Topics, job: str, version: str) -> Outgoing:
    """Records that the results of replay ``job``, which made ``version``, are no longer wanted."""
    value = orjson.dumps({"job": job, "version": version, "dropped_at": datetime.now(UTC)})
    return Outgoing(topics.versions, 0, f"{_JOB}{job}".encode(), value)


class KnownVersions:
    """The content of the versions topic so far."""

    def __init__(self) -> None:
        self.specs: dict[str, LabelSpec] = {}
        self.dropped: dict[str, str] = {}  # job -> version
        self.calibrations: dict[str, dict[int, VersionCalibration]] = {}  # version -> generation
        self.cascades = KnownCascades()
        self.drift = KnownDrift()
        self._newest: dict[str, VersionCalibration] = {}

    def learn(self, record: Record) -> None:
        """Read a message of the topic, in order. Messages of other programs are ignored."""
        key = (record.key or b"").decode("utf-8", "replace")
        if key.startswith(_JOB):
            try:
                self.dropped[key.removeprefix(_JOB)] = str(orjson.loads(record.value or b"{}")["version"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                self.dropped.pop(key.removeprefix(_JOB), None)
            return
        if key.startswith(CALIBRATION):
            self._learn_calibration(key, record.value)
            return
        if self.cascades.learn(key, record.value) or self.drift.learn(key, record.value):
            return
        try:
            spec = LabelSpec.model_validate_json(record.value or b"")
        except ValidationError:
            return
        if spec.version == key:
            self.specs[key] = spec

    def _learn_calibration(self, key: str, value: bytes | None) -> None:
        try:
            found = VersionCalibration.model_validate_json(value or b"")
        except ValidationError:
            return
        if not found.belongs_to(key):
            return
        known = self.calibrations.setdefault(found.version, {})
        # Two processes may have fitted at once: what was applied under a number stays what it was.
        known.setdefault(found.generation, found)
        self._newest[found.version] = known[max(known)]

    def calibration_of(self, version: str) -> VersionCalibration | None:
        """The newest one of ``version``; None if there is none, or if it leaves confidence as it is."""
        newest = self._newest.get(version)
        return None if newest is None or newest.method == "raw" else newest

    def cascade_of(self, version: str) -> CascadeState | None:
        """Where the cascade of ``version`` stands; None: no trainer has seen it."""
        return self.cascades.state_of(version)

    def proxy_of(self, version: str) -> tuple[int, bytes] | None:
        """Generation and bytes of the proxy of ``version``; None unless it is there whole."""
        return self.cascades.proxy_of(version)

    def under_own_name(self, spec: LabelSpec) -> LabelSpec:
        """``spec``; where another one has its name, under that name and its digest, which is the same for all
        processes that ask so. What a version asks never changes.
        """
        other = self.specs.get(spec.version)
        if other is None or other.same_as(spec):
            return spec
        digest = f".{spec.digest}"
        return spec.model_copy(update={"version": spec.version[: _LONGEST_NAME - len(digest)] + digest})

    def unwanted(self, record: Record) -> bool:
        """Whether ``record`` belongs to a dropped replay."""
        job = record.header(REPLAY_JOB)
        return job is not None and job.decode("utf-8", "replace") in self.dropped

    def usable(self, version: str) -> None:
        """Refuse a name whose rows were removed: the workers remember these rows as done under it.

        Raises:
            ConfigurationError: a replay of that version was dropped, or it is the version of people.
        """
        if version == HUMAN:
            raise ConfigurationError(
                f"{HUMAN} is the version of the labels that people give",
                setting="--version",
                fix="choose another name",
            )
        if version in self.dropped.values():
            raise ConfigurationError(
                f"a replay of label version {version} was dropped",
                setting="--version",
                fix="choose another name: the rows that were dropped cannot come back under this one",
            )
