"""What a read sends along, so that it ends on the server when nobody waits for it any more.

Three things, because each of them fails somewhere. `max_execution_time` ends a read before its client gives
up. `readonly` makes a server look whether the client is still there
(`cancel_http_readonly_queries_on_client_close`, which the driver sets, works for nothing else). The id is for
KILL QUERY, and for a server to refuse the same read while its first attempt runs.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

import structlog

from connectors.clickhouse.client.errors import CONSTRAINT, READONLY, code_of

log = structlog.get_logger()

# The server gives up before the client does.
_MARGIN_SECONDS = 5.0
_KILLS, _KILL_PAUSE = 20, 0.25
_READS = ("SELECT", "WITH")


class Attempt:
    """One try of one read. ``over``: its thread has the answer, or an error."""

    def __init__(self) -> None:
        self.query_id = f"labelstream-read-{uuid.uuid4()}"
        self.begun = False
        self.over = threading.Event()

    def kill(self, driver: Any) -> None:
        """End it on the server, also if it arrives there later than this. Does not raise."""
        for _ in range(_KILLS):
            if self.over.is_set():
                return
            with contextlib.suppress(Exception):
                driver.command(f"KILL QUERY WHERE query_id = '{self.query_id}' ASYNC")
            self.over.wait(_KILL_PAUSE)


class ReadLimits:
    """The settings of the reads of one client, as far as its user may change them."""

    def __init__(self, answer_seconds: float) -> None:
        """``answer_seconds``: how long the client waits for an answer."""
        self._seconds = max(1.0, answer_seconds - _MARGIN_SECONDS, answer_seconds / 2)
        self._refused = False

    def settings(
        self,
        driver: Any,
        sql: str,
        attempt: Attempt,
        *,
        timed: bool = True,
        block_rows: int | None = None,
        skip_indexes: bool = True,
    ) -> dict[str, Any]:
        """The settings of ``attempt``. A stream, which is not ``timed``, may last as long as it is read; its
        blocks have at most ``block_rows``. Without ``skip_indexes`` the primary key alone is looked at.
        """
        found: dict[str, Any] = {"query_id": attempt.query_id}
        if self._refused:
            return found
        if timed and may_set(driver, "max_execution_time"):
            found["max_execution_time"] = self._time(driver)
        if block_rows is not None and may_set(driver, "max_block_size"):
            found["max_block_size"] = block_rows
        if not skip_indexes and may_set(driver, "use_skip_indexes"):
            found["use_skip_indexes"] = 0
        reads = sql.lstrip(" \n(").upper().startswith(_READS)
        free = driver.get_client_setting("readonly") is None and _value(driver, "readonly") == "0"
        if reads and free and may_set(driver, "readonly"):
            found["readonly"] = 2
        return found

    def run(
        self,
        driver: Any,
        sql: str,
        attempt: Attempt,
        call: Callable[[dict[str, Any]], Any],
        *,
        skip_indexes: bool = True,
    ) -> Any:
        """``call`` with the settings; once more without, if the user's profile limits them."""
        given = self.settings(driver, sql, attempt, skip_indexes=skip_indexes)
        try:
            return call(given)
        except Exception as error:
            if len(given) == 1 or code_of(error) not in (READONLY, CONSTRAINT):
                raise
            answer = call({"query_id": attempt.query_id})
            self._refused = True
            log.warning("reads_are_not_limited", reason=str(error)[:300])
            return answer

    def _time(self, driver: Any) -> int:
        """Whole seconds; a shorter limit of the user's profile stays."""
        own = _value(driver, "max_execution_time")
        mine = int(self._seconds)
        with contextlib.suppress(TypeError, ValueError):
            if 0 < float(own or 0) < mine:
                return int(float(own or 0)) or 1
        return mine


def may_set(driver: Any, name: str) -> bool:
    """Whether the server that ``driver`` is connected to knows the setting, and its user may change it."""
    known = driver.server_settings.get(name)
    return known is not None and not known.readonly


def _value(driver: Any, name: str) -> str | None:
    known = driver.server_settings.get(name)
    return None if known is None else str(known.value)
