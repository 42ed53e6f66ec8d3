"""Shared by the commands: settings, JSON, signals, times."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import select
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

from streams.core.environment import load
from streams.core.errors import ConfigurationError, ReaderGoneError
from streams.core.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object, last on stdout.")]
console = Console(stderr=True)

SETTLE_SECONDS = 9.0


def moment_in(text: str | None) -> datetime | None:
    """A time from the command line.

    Raises:
        ConfigurationError: it is no time, or has no zone.
    """
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"{text} is no time", fix="write it as 2026-01-31T00:00:00Z") from None
    if found.tzinfo is None:
        raise ConfigurationError(f"{text} has no zone", fix="add Z for UTC, or +03:00")
    return found


def account() -> str:
    """The name of the account that runs the command, for the audit log."""
    with contextlib.suppress(OSError, KeyError):  # no name for the user id, as in a container
        return getpass.getuser()
    return "local"


def state_of(version: dict[str, Any]) -> str:
    """A label version's state in a word or two."""
    return "current" if version["current"] else version["status"] + ", live" * bool(version.get("live"))


def examples(*lines: str) -> str:
    """The end of a command's help: example command lines."""
    return "\n\n".join(("Examples:", *lines))


def read_settings() -> Settings:
    return load(env_file=Path(".env"))


def until_signal(work: Awaitable[Any], settle: float = SETTLE_SECONDS, *, while_read: bool = False) -> None:
    """Run ``work``; SIGTERM, SIGINT and SIGHUP cancel it, and it may clean up before the process ends.
    ``while_read``: so does the end of the program that reads our output.

    Only once: a second signal does not interrupt the clean-up. If the clean-up takes longer than ``settle``
    seconds, the process ends without it, which loses no more than a crash would.
    """
    last = threading.Timer(settle, os._exit, (1,))
    last.daemon = True

    async def main_task() -> None:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()

        def end() -> None:
            if not last.is_alive():
                last.start()
                task.cancel()

        ending = [signal.SIGTERM, signal.SIGINT]
        # A closed terminal ends it; under nohup it goes on.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            ending.append(signal.SIGHUP)
        for number in ending:
            loop.add_signal_handler(number, end)
        if while_read:
            _when_unread(loop, end)
        try:
            await task
        except asyncio.CancelledError:
            return

    _runner()(main_task())


def _when_unread(loop: asyncio.AbstractEventLoop, end: Callable[[], None]) -> None:
    """Call ``end`` when standard output is a pipe that nobody reads any more, also if nothing is written."""
    if not hasattr(select, "poll"):  # Windows
        return
    pipe = select.poll()
    pipe.register(sys.stdout.fileno(), 0)

    def watch() -> None:
        pipe.poll()
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(end)

    threading.Thread(target=watch, daemon=True).start()


def _runner() -> Callable[[Coroutine[Any, Any, None]], None]:
    if sys.platform == "win32":
        return asyncio.run
    import uvloop

    run: Callable[[Coroutine[Any, Any, None]], None] = uvloop.run
    return run


def print_json(value: object) -> None:
    typer.echo(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode())


def write_line(line: bytes) -> None:
    """To standard output.

    Raises:
        ReaderGoneError: nobody reads it any more.
    """
    try:
        sys.stdout.buffer.write(line + b"\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer is written when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ReaderGoneError("nobody reads the output any more") from None
