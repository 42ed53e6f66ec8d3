"""The newest audited actions, in memory and in the result database."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog

from connectors.clickhouse.queries.audit_log import read_audit, write_audit
from streams.core.background import in_background
from streams.core.errors import LabelstreamError
from streams.ports.audit import AuditEntry
from streams.runtime.result_tables import ResultTables

log = structlog.get_logger()


_KEPT_ENTRIES = 10_000


class AuditLog:
    """Implements `streams.ports.audit.Audit` over `audit_log`; entries that cannot be written wait."""

    def __init__(self, tables: ResultTables) -> None:
        self._tables = tables
        self._waiting: deque[AuditEntry] = deque(maxlen=_KEPT_ENTRIES)
        self._writing = asyncio.Lock()
        self._writes: set[asyncio.Task[None]] = set()

    async def note(self, entry: AuditEntry) -> None:
        log.info(
            "audit",
            who=entry.who,
            address=entry.address,
            action=entry.action,
            target=entry.target,
            result=entry.result,
        )
        self._waiting.append(entry)
        # The caller does not wait for it.
        task = in_background(self._write(), "write the audit log")
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def newest(self, limit: int, *, looks: bool) -> Sequence[AuditEntry]:
        await self._write()
        return await self._tables.ask(
            lambda client, settings: read_audit(client, settings, limit, looks=looks)
        )

    async def close(self) -> None:
        """Write the waiting entries."""
        if self._writes:
            await asyncio.wait(self._writes)
        await self._write()

    async def _write(self) -> None:
        async with self._writing:
            entries = list(self._waiting)
            if not entries:
                return
            try:
                await self._tables.ask(lambda client, settings: write_audit(client, settings, entries))
            except LabelstreamError as error:
                log.warning("audit_waits", entries=len(entries), reason=str(error))
                return
            for _ in entries:
                self._waiting.popleft()
