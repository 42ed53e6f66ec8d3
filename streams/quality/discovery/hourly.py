"""Looks for what is new once an hour, where one process is active: for the log and the metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from importlib.util import find_spec
from typing import Any

import structlog
from prometheus_client.metrics_core import Metric

from connectors.clickhouse.client.client import ClickHouseClient
from streams.core.errors import LabelstreamError
from streams.core.settings import Settings
from streams.observability.metrics import NEW_GROUP_ROWS, NEW_GROUPS
from streams.quality.discovery.discover import discover

log = structlog.get_logger()

_FIRST_SECONDS, _SECONDS = 900.0, 3600.0
# A group is told if it was not there before, or has grown so many times.
_GROWTH = 3.0


async def _look(settings: Settings) -> dict[str, Any]:
    async with ClickHouseClient.from_settings(settings) as client:
        return await discover(client, settings)


class HourlyLook:
    """``groups``: those of the last look that are new or have grown; None before the first one."""

    def __init__(
        self,
        settings: Settings,
        *,
        look: Callable[[Settings], Awaitable[dict[str, Any]]] = _look,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.groups: list[dict[str, Any]] | None = None
        self._settings = settings
        self._look = look
        self._pause = pause

    async def run(self) -> None:
        """Look every hour until cancelled. Ends where the packages for it are not installed."""
        if find_spec("sklearn") is None:
            log.info("not looking for what is new", fix="pip install 'labelstream[quality]'")
            return
        await self._pause(_FIRST_SECONDS)
        while True:
            try:
                found = await self._look(self._settings)
            except LabelstreamError as error:  # also tables that `init` has not made yet
                log.info("what_is_new_not_known", why=str(error))
            except Exception as error:  # a bug; a traceback may quote a text
                log.warning("what_is_new_not_known", why=type(error).__name__)
            else:
                self.groups = [
                    one for one in found["groups"] if one["growth"] is None or one["growth"] >= _GROWTH
                ]
                if self.groups:
                    # No texts: logs go to more people than tables do.
                    log.info(
                        "something_new",
                        groups=len(self.groups),
                        largest=max(one["size"] for one in self.groups),
                        fix="labelstream discover",
                    )
            await self._pause(_SECONDS)

    def measure(self) -> Iterable[Metric]:
        """Metrics of the last look; none before it."""
        if self.groups is not None:
            yield NEW_GROUPS.one(float(len(self.groups)))
            yield NEW_GROUP_ROWS.one(float(max((one["size"] for one in self.groups), default=0)))
