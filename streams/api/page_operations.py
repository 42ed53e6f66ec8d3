"""The page's actions: they run the same code as the command line."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

import structlog

from streams.core.background import in_background
from streams.core.errors import ConfigurationError, LabelstreamError, RefusedError
from streams.core.settings import Settings
from streams.files.service import FileWork
from streams.jobs.commands import set_wish
from streams.jobs.job import Wish
from streams.jobs.runner import run_job
from streams.operations.dead_letters import letter_id, list_dead_letters, retry_letter
from streams.runtime.local_stack import with_local_stack
from streams.versions.commands import compare, promote, retire, versions_known

log = structlog.get_logger()

_MOST_CHANGED = 200
_RESUMED_BY_US = frozenset({"topic", "table", "source"})


class PageOperations:
    """Implements `streams.ports.page.Operations`."""

    def __init__(self, settings: Settings, files: FileWork) -> None:
        self._settings = settings
        self._files = files
        self._working: dict[str, asyncio.Task[None]] = {}

    async def letters(
        self, *, step: str | None, reason: str | None, only_open: bool, limit: int
    ) -> dict[str, Any]:
        found = await list_dead_letters(
            await self._found(), step=step, reason=reason, since=None, limit=limit
        )
        shown = [one for one in found["dead_letters"] if not (only_open and one["resolved"])]
        return {**found, "dead_letters": [one | {"id": letter_id(one)} for one in shown]}

    async def retry(self, letter: str) -> dict[str, Any]:
        return await retry_letter(await self._found(), letter)

    async def replays(self) -> list[dict[str, Any]]:
        return await self._files.jobs()

    async def steer(self, job: str, wish: str) -> dict[str, Any]:
        settings = await self._found()
        try:
            told = await set_wish(settings, job, _WISHES[wish])
        except ConfigurationError as error:
            raise RefusedError(str(error), reason="conflict") from error
        if wish == "resume" and not told["kept"] and told["source"] in _RESUMED_BY_US:
            self._go_on(settings, job)
        return told

    async def versions(self) -> list[dict[str, Any]]:
        return await versions_known(await self._found())

    async def diff(self, a: str, b: str) -> dict[str, Any]:
        found = await compare(await self._found(), a, b, _MOST_CHANGED)
        return {**asdict(found), "agreement": found.agreement}

    async def promote(self, version: str, *, force: bool = False) -> dict[str, Any]:
        return await promote(await self._found(), version, force=force)

    async def retire(self, version: str) -> dict[str, Any]:
        return await retire(await self._found(), version)

    async def close(self) -> None:
        """Stop publishing replays; they can be resumed."""
        for task in self._working.values():
            task.cancel()
        if self._working:
            await asyncio.wait(list(self._working.values()))

    def _go_on(self, settings: Settings, job: str) -> None:
        """Publish it here: the command that started it ended when it was paused. Only one process publishes
        at a time.
        """
        if job in self._working and not self._working[job].done():
            return
        self._working = {name: task for name, task in self._working.items() if not task.done()}

        async def go() -> None:
            try:
                await run_job(settings, job, lambda found, left: None)
            except LabelstreamError as error:
                log.warning("replay_stops", job=job, reason=str(error))

        self._working[job] = in_background(go(), f"replay {job}")

    async def _found(self) -> Settings:
        return await asyncio.to_thread(with_local_stack, self._settings)


_WISHES = {"pause": Wish.PAUSE, "resume": Wish.RUN, "cancel": Wish.CANCEL}
