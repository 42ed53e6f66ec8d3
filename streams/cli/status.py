"""`labelstream status`."""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from streams.cli.common import Json, examples, print_json, read_settings, until_signal
from streams.cli.progress import working

_PLAIN_WIDTH = 160

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Look again and again, until Ctrl-C.")]
Every = Annotated[float, typer.Option(min=0.5, help="Seconds between two looks.")]

EXAMPLES = examples(
    "labelstream status",
    "labelstream status --watch --every 5",
    "labelstream status --json",
)


def status(watch: Watch = False, every: Every = 2.0, as_json: Json = False) -> None:
    """Show roles, lag in messages and seconds, rates, limits, versions and jobs on one screen, and what is
    down.
    """
    from streams.cli.status_screen import picture
    from streams.operations.status import status as look
    from streams.runtime.local_stack import with_local_stack

    settings = with_local_stack(read_settings())
    screen = Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH)

    async def again() -> None:
        with Live(console=screen, auto_refresh=False) as live:
            while True:
                found = await look(settings)
                if as_json:
                    print_json(found)
                else:
                    live.update(picture(found, datetime.now()), refresh=True)
                await asyncio.sleep(every)

    if watch:
        until_signal(again())
        return
    with working("looking"):
        found: dict[str, Any] = asyncio.run(look(settings))
    if as_json:
        print_json(found)
    else:
        screen.print(picture(found, datetime.now()), highlight=False)
