"""Shared by the measurements: a local stack, a function in a process of its own, a table at the end.

::

    with stack(llm=False) as settings:
        figure = measure(consume, settings, rows)      # in a child: result, seconds, CPU, peak memory
    report("the question", [("raw", figure), ...], as_json=False)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

import psutil

from connectors.local.stack import LocalStack
from streams.core.settings import Settings

T = TypeVar("T")

_JARS = Path(__file__).resolve().parents[1] / ".labelstream" / "jars"
_LOOK_SECONDS = 0.02


@dataclass(frozen=True)
class Measured(Generic[T]):
    """The result of a function in its own process, and its cost.

    ``seconds`` and ``cpu_seconds`` are those of the function alone (without imports and the start of the
    process). ``peak_mb`` is the largest resident size while it ran, ``grown_mb`` the growth over the size at
    its start.
    """

    result: T
    seconds: float
    cpu_seconds: float
    peak_mb: float
    grown_mb: float


class ChildError(Exception):
    """The function raised; the text is its traceback."""


@contextlib.contextmanager
def stack(
    *,
    kafka: bool = True,
    clickhouse: bool = True,
    llm: bool = False,
    llm_args: Sequence[str] = (),
    **changes: Any,
) -> Iterator[Settings]:
    """A local stack in a temporary folder, and settings that point to it; ``changes`` are further settings.

    Kafka's jars are taken from LABELSTREAM_JARS or the repository's data folder, and kept there.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops the stack too
    jars = Path(os.environ.get("LABELSTREAM_JARS") or _JARS)
    with tempfile.TemporaryDirectory(prefix="labelstream-bench-") as folder:
        parts = LocalStack(Path(folder), jars_dir=jars)
        try:
            status = parts.up(kafka=kafka, clickhouse=clickhouse, llm=llm, llm_args=llm_args, on_progress=say)
            values: dict[str, Any] = {"labelstream_data": Path(folder)}
            if kafka:
                values["kafka_bootstrap_servers"] = status.kafka.address
            if clickhouse:
                values |= {
                    "clickhouse_host": status.clickhouse.host,
                    "clickhouse_port": status.clickhouse.port,
                }
            if llm:
                values |= {
                    "llm_labeler_api_base": status.llm.address,
                    "llm_augmenter_api_base": status.llm.address,
                }
            yield Settings(**(values | changes))
        finally:
            parts.down()


def measure(function: Callable[..., T], *arguments: Any) -> Measured[T]:
    """Run ``function``, of a module, in a fresh process. Arguments and result are pickled.

    Raises:
        ChildError: it raised, or its process died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs, function, arguments))
    child.start()
    theirs.close()
    try:
        failure, found = ours.recv()
    except EOFError:
        failure, found = "the process died", None
    finally:
        child.join()
        ours.close()
    if failure:
        raise ChildError(failure)
    measured: Measured[T] = found
    return measured


def options(description: str | None) -> argparse.ArgumentParser:
    """A parser with the options of every measurement. ``description``: the module's docstring."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object, last on stdout")
    return parser


def report(
    title: str,
    figures: Sequence[tuple[str, Mapping[str, float]]],
    *,
    as_json: bool,
    ratios: Mapping[str, float] | None = None,
) -> None:
    """Print ``figures``, each a name and its numbers, as a table or as one JSON object; and ``ratios``."""
    ratios = ratios or {}
    if as_json:
        print(json.dumps({"question": title, "figures": dict(figures), "ratios": dict(ratios)}))
        return
    columns = list(dict.fromkeys(name for _, numbers in figures for name in numbers))
    lines = [["", *columns]]
    lines += [[name, *(_shown(numbers.get(column)) for column in columns)] for name, numbers in figures]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    print(title)
    for line in lines:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        print("  ".join(cells))
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.3f}")


def say(text: str) -> None:
    """Report progress on stderr: stdout is for the report."""
    print(text, file=sys.stderr, flush=True)


def cpu_seconds() -> float:
    """CPU time of this process so far, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _run(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        process = psutil.Process()
        with _watched(process) as peak:
            before, cpu, began = process.memory_info().rss, cpu_seconds(), time.perf_counter()
            result = function(*arguments)
            seconds, used = time.perf_counter() - began, cpu_seconds() - cpu
        most = max(peak[0], before)
        answer.send((None, Measured(result, seconds, used, most / 1e6, (most - before) / 1e6)))
    except BaseException:
        answer.send((traceback.format_exc(), None))


@contextlib.contextmanager
def _watched(process: psutil.Process) -> Iterator[list[int]]:
    """The largest resident size while the block runs: ru_maxrss would include the imports."""
    peak, done = [0], threading.Event()

    def look() -> None:
        while not done.wait(_LOOK_SECONDS):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


def _shown(number: float | None) -> str:
    if number is None:
        return ""
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
