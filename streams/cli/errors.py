"""How a command ends after an error: one line with the setting's name; a traceback only with `--debug`."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from streams.cli.common import console
from streams.core.errors import (
    ConfigurationError,
    GateError,
    LabelstreamError,
    ReaderGoneError,
    missing_package,
)
from streams.observability.watchdog import EXIT_CODE, StalledError

DEBUG = "--debug"
REFUSED = 3  # the exit code of what a gate refuses
_ROOT = Path(__file__).resolve().parents[2]


def hoisted(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with `--debug` first, wherever it was given: it applies to the whole command."""
    ours = list(arguments[: arguments.index("--")]) if "--" in arguments else list(arguments)
    if DEBUG not in ours:
        return list(arguments)
    rest = [word for word in ours if word != DEBUG]
    return [DEBUG, *rest, *arguments[len(ours) :]]


def guarded(command: Callable[[], object], *, debug: bool) -> int:
    """Run ``command``; returns the exit code. An unexpected error is a bug, and its location is shown."""
    try:
        command()
    except KeyboardInterrupt:
        return 130
    except ReaderGoneError:
        return 0
    except Exception as caught:
        error = _told(caught)
        if debug:
            console.print(traceback.format_exc(), markup=False, highlight=False)
        _say(f"labelstream: {_line(error)}")
        fix = error.fix if isinstance(error, ConfigurationError) else ""
        if fix:
            console.print(f"  {fix}", markup=False, highlight=False)
        if isinstance(error, GateError):
            return REFUSED
        return EXIT_CODE if isinstance(error, StalledError) else 1
    return 0


def logged(work: Callable[[], object], role: str, *, debug: bool) -> int:
    """The same for a role whose log is read by programs: the error is the last line of the log."""
    log = structlog.get_logger()
    try:
        work()
    except KeyboardInterrupt:
        return 130
    except Exception as caught:
        error = _told(caught)
        told = {name: value for name in ("setting", "fix") if (value := getattr(error, name, ""))}
        log.error("role_failed", error=_line(error), role=role, exc_info=caught if debug else None, **told)
        return EXIT_CODE if isinstance(error, StalledError) else 1
    return 0


def _told(error: Exception) -> Exception:
    missing = missing_package("this", error) if isinstance(error, ModuleNotFoundError) else None
    return missing or error


def _say(line: str) -> None:
    console.print(line, style="red", markup=False, highlight=False)


def _line(error: Exception) -> str:
    if isinstance(error, LabelstreamError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(_ROOT)]
    where = ours[-1] if ours else frames[-1]
    text = " ".join(str(error).split())[:300]
    return (
        f"unexpected {type(error).__name__} in {Path(where.filename).name}, line {where.lineno}: {text} "
        f"({DEBUG} shows the traceback)"
    )


def debugging() -> bool:
    """Whether tracebacks were requested."""
    return DEBUG in hoisted(sys.argv[1:])[:1]
