"""What the interpreter is told, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

from tests.waiting import PATIENCE

SCRIPT = """
import gc, sys
from streams.runtime.interpreter_tuning import for_short_waits

young = gc.get_threshold()[0]
for_short_waits()
assert gc.get_freeze_count() > 1000
assert gc.get_threshold()[0] > young and gc.isenabled()
assert sys.getswitchinterval() < 0.001
"""


def test_what_stands_is_not_looked_through_again_and_threads_switch_soon() -> None:
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=PATIENCE)
