"""Log lines: one event a line, readable in a terminal or as JSON.

Each has `timestamp`, `level`, `event` and `role`. A line that is logged while a row is processed also has its
`row_id` and `trace_id`.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor

from streams.core.context import AT_WORK

_FIRST = ("timestamp", "level", "event", "role")


def configure_logs(level: str = "info", form: str = "console", role: str = "") -> None:
    """Send our lines and the libraries' warnings to stderr. ``role`` is in every line."""
    number = getattr(logging, level.upper())
    json = form == "json"

    def name_role(_: Any, __: str, event: EventDict) -> EventDict:
        # In a terminal it is known which role it is.
        if role and json:
            event.setdefault("role", role)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_row,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_role,
    ]
    ends: list[Processor] = (
        [structlog.processors.format_exc_info, _in_order, structlog.processors.JSONRenderer(default=str)]
        if json
        else [
            structlog.processors.format_exc_info,
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
        ]
    )
    structlog.configure(
        processors=[*shared, *ends],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # aiokafka and urllib3 report every reconnection as an error; we log what matters ourselves.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ends],
        )
        if json
        else logging.Formatter("%(levelname)s %(name)s %(message)s")
    )
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
    for noisy in ("aiokafka", "faust", "mode", "urllib3", "clickhouse_connect"):
        logging.getLogger(noisy).setLevel(logging.CRITICAL if number > logging.DEBUG else logging.INFO)


def _name_row(_: Any, __: str, event: EventDict) -> EventDict:
    at = AT_WORK.get()
    if at is not None:
        for name, value in at.about().items():
            event.setdefault(name, value)
    return event


def _in_order(_: Any, __: str, event: EventDict) -> EventDict:
    return {**{name: event[name] for name in _FIRST if name in event}, **event}
