"""Labels again what a revoked proxy labelled: a job, as soon as all such labels are in the tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from hashlib import blake2b

import structlog

from streams.core.errors import UnavailableError
from streams.core.records import Partition
from streams.jobs.context import JobContext, count_unstored, note, read_ends
from streams.jobs.job import Job, Wish
from streams.training.version_training import VersionTraining

log = structlog.get_logger()

# So long a worker may go on that has not read of the revocation. What comes later is repaired once more.
_LATE_SECONDS = 5.0


class Repairs:
    """The repairs of one ownership. ``context``: for a job; raises UnavailableError while there is none."""

    def __init__(
        self, context: Callable[[], JobContext], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._context = context
        self._clock = clock
        self._wanted: dict[str, float] = {}
        self._ends: dict[str, Mapping[Partition, int]] = {}

    async def begin(self, training: VersionTraining) -> bool:
        """Request the job that repairs the version. False: not yet; call it again.

        Raises:
            UnavailableError, AccessError: of Kafka.
        """
        version = training.version
        try:
            context = self._context()
        except UnavailableError:
            return False
        wanted = self._wanted.setdefault(version, self._clock())
        before = context.jobs.jobs.get(_id(training, training.memory.repairs))
        at_work = (
            before is not None
            and not before.done
            and context.jobs.wish(before.id) not in (Wish.CANCEL, Wish.DROP)  # nobody would end it
        )
        if at_work or self._clock() - wanted < _LATE_SECONDS:
            return False
        if version not in self._ends:
            topics = context.topics
            self._ends[version] = await read_ends(context, topics.labeled, topics.shadow)
        if await count_unstored(context, dict(self._ends[version])):
            return False
        job = Job(
            id=_id(training, training.memory.repairs + 1),
            source="table",
            version=version,
            to="labeled" if training.memory.published else "shadow",
            proxy_since=training.memory.repair_since or 0,
            kept=True,
        )
        # Whoever was here before may have requested it, too: a job of one id is one job.
        await note(context, job.asked_message(context.topics))
        training.memory.repairs += 1
        del self._wanted[version], self._ends[version]
        log.warning("cascade_repair_begun", label_version=version, job=job.id)
        return True


def _id(training: VersionTraining, number: int) -> str:
    """Of the repair with that number of the version: the same whoever requests it."""
    digest = blake2b(training.version.encode(), digest_size=4).hexdigest()
    return f"repair-{digest}-{training.memory.revoked}-{number}"
