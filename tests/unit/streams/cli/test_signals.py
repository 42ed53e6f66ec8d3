"""A command that is told to end settles first, whichever signal tells it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.waiting import PATIENCE

_WORK = """
import asyncio
import signal
import sys

from streams.cli.common import until_signal

# Whoever runs the tests may do so under nohup.
signal.signal(signal.SIGHUP, signal.SIG_IGN if "ignoring" in sys.argv else signal.SIG_DFL)

async def work():
    try:
        print("ready", flush=True)
        await asyncio.sleep(1.0 if "ignoring" in sys.argv else 60.0)
        print("finished")
    finally:
        print("settled")

until_signal(work())
"""


def told(number: signal.Signals, *arguments: str) -> tuple[int, list[str]]:
    process = subprocess.Popen([sys.executable, "-c", _WORK, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    rest, _ = process.communicate(timeout=PATIENCE)
    return process.returncode, rest.split()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_settles(number: signal.Signals) -> None:
    assert told(number) == (0, ["settled"])


def test_under_nohup_a_closing_terminal_ends_nothing() -> None:
    assert told(signal.SIGHUP, "ignoring") == (0, ["finished", "settled"])
