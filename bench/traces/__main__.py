"""What do traces cost? ``python -m bench.traces [--rows 5000] [--runs 5] [--before FOLDER] [--json]``.

One agents worker labels rows on an endpoint of 5 ms: without traces, and with those of 10 % and of all rows
sent to a collector. With ``--before``, a working copy of another commit, that one runs as well. The runs are
interleaved, because a machine's speed changes while they go on; the ratios are medians of the CPU a row over
that of the base run of the same round.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from bench.endpoint import endpoint
from bench.harness import options, report, say, stack
from bench.running import distinct_texts, fill_rows, make_topics, role, watched_run, with_settings
from streams.core.settings import Settings

_PARTITIONS = 4
_IN_FLIGHT = 64
_RUN = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); sys.argv = ['labelstream', 'run', 'agents']; "
    "from streams.cli.main import main; main()"
)


class _Collector(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is said of each request."""


@contextmanager
def collector() -> Iterator[str]:
    """A collector that takes everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def once(settings: Settings, rows: int, folder: Path, code: Path | None, **traces: Any) -> float:
    """CPU milliseconds a row of one worker."""
    here = with_settings(settings, topic_prefix=folder.name, **traces)
    make_topics(here)
    fill_rows(here, distinct_texts(rows))
    command = [] if code is None else [sys.executable, "-c", _RUN, str(code)]
    with role("agents", here, folder, command) as worker:
        return watched_run(here, [worker], rows)["CPU ms/row"]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--before", type=Path)
    chosen = parser.parse_args()
    with (
        stack(clickhouse=False) as settings,
        endpoint() as base,
        endpoint(slots=0) as silent,
        collector() as receiver,
    ):
        here = with_settings(
            settings,
            topic_partitions=_PARTITIONS,
            llm_labeler_api_base=base,
            llm_labeler_concurrency=_IN_FLIGHT,
            llm_augmenter_api_base=silent,
        )
        on = {"otel_exporter_otlp_endpoint": receiver, "otel_traces_sampler": "traceidratio"}
        ways: dict[str, tuple[Path | None, dict[str, Any]]] = {
            "off": (None, {}),
            "10 %": (None, on | {"otel_traces_sampler_arg": 0.1}),
            "all": (None, on),
        }
        if chosen.before is not None:
            ways = {"before": (chosen.before.resolve(), {})} | ways
        found: dict[str, list[float]] = {name: [] for name in ways}
        numbers = itertools.count()
        for _ in range(chosen.runs):
            for name, (code, traces) in ways.items():
                folder = settings.labelstream_data / f"traces{next(numbers)}"
                found[name].append(once(here, chosen.rows, folder, code, **traces))
                say(f"{name}: {found[name][-1]:.3f} ms")
    figures = [
        (name, {"CPU ms/row": statistics.median(some), "least": min(some), "most": max(some)})
        for name, some in found.items()
    ]
    ratios = {
        f"CPU a row, traces {name} over {base}": statistics.median(
            one / other for one, other in zip(found[name], found[base], strict=True)
        )
        for name, base in (("off", "before"), ("10 %", "off"), ("all", "off"))
        if base in found
    }
    report(
        f"CPU of a labelled row, {chosen.runs} interleaved runs", figures, as_json=chosen.json, ratios=ratios
    )


if __name__ == "__main__":
    main()
