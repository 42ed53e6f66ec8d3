"""What the tests of a run share is stopped when the run ends, also when somebody kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.stack import TAXONOMY
from tests.waiting import until

_RUN = """
import os, sys, time
from pathlib import Path
from tests.stack import SharedStack

shared = SharedStack(Path(sys.argv[1]), os.getpid())
print(shared.standin().pid, flush=True)
if sys.argv[2] == "killed":
    time.sleep(600)
shared.remove()
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_it_ends_with_the_run(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "shared"
    command = [sys.executable, "-c", _RUN, str(folder), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=TAXONOMY.parent, text=True) as run:
        assert run.stdout is not None
        standin = psutil.Process(int(run.stdout.readline()))
        if how == "killed":
            os.kill(run.pid, signal.SIGKILL)
    until(lambda: not standin.is_running(), "the stand-in has ended")
    until(lambda: not folder.exists(), "nothing is left")
