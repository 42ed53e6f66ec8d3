"""Shows progress while a command runs: on stderr, and only in a terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from streams.cli.common import console as stderr


@contextlib.contextmanager
def working(what: str, console: Console = stderr) -> Iterator[Callable[[str], None]]:
    """Show that work is running, and for how long. Yields a function that sets the description."""
    with _progress(console, SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()) as bar:
        task = bar.add_task(what, total=None)
        yield lambda now: bar.update(task, description=now)


def counted(console: Console = stderr) -> Progress:
    """A progress bar with the count and the remaining time."""
    return _progress(
        console, TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    )


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
