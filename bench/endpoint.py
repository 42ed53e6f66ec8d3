"""A stand-in for an LLM endpoint that costs very little: no language model, one fixed answer.

``python -m bench.endpoint --slots 64 --seconds 0.3``. It implements HTTP/1.1 itself, so that on two cores the
endpoint is not what is measured: about 0.05 ms of CPU a request. It answers like vLLM, logprobs included, of
which ``--alternatives 20`` gives so many at each token; asked for variants it writes three, always the same
or with ``--distinct`` always others.
``--slots 0``: no request is ever answered; ``--slots -1``: every one at once. ``--queue N``: with so many
waiting it answers 429. ``POST /manner`` changes its slots, queue and seconds while it runs; ``GET /stats``
returns the calls, the refusals, the maximum in flight, and the waiting requests.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
import uvloop

MODEL = "bench-standin"
OWNER = "stand-in, not a language model"
# Labels of the taxonomy in the repository, and their probabilities.
_LABELS = ("delivery", "payment", "refund", "account_access")


# Variants of `distinct_texts` that the augment step accepts.
_VARIANTS = (
    "скажите, где сейчас моя посылка и когда её доставят",
    "хочу узнать, когда привезут то, что я заказал",
    "мой заказ ещё не приехал, сколько ждать доставки",
)

# Digits that the text does not have would be none of a variant.
_LETTERS = str.maketrans("0123456789", "абвгдежзик")


def completion(label: str = _LABELS[0], alternatives: int = 0) -> bytes:
    """The body of the answers about labels: `{"label": ...}` in tokens, each with its logprobs, and with so
    many ``alternatives`` at least.
    """
    fill = {f"word{number}": -9.0 - number for number in range(alternatives)}

    def token(text: str, logprob: float, others: dict[str, float] | None = None) -> dict[str, Any]:
        top = {text: logprob} | (others or {})
        top |= dict(list(fill.items())[: max(alternatives - len(top), 0)])
        return {
            "token": text,
            "logprob": logprob,
            "bytes": list(text.encode()),
            "top_logprobs": [
                {"token": one, "logprob": chance, "bytes": list(one.encode())} for one, chance in top.items()
            ],
        }

    others = {name: -2.5 - number for number, name in enumerate(n for n in _LABELS if n != label)}
    tokens = [token('{"', 0.0), token("label", 0.0), token('":"', 0.0), token(label, -0.12, others)]
    tokens.append(token('"}', 0.0))
    return _answer(f'{{"label":"{label}"}}', {"content": tokens})


def _answer(content: str, logprobs: object) -> bytes:
    answer = {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "tool_calls": []},
                "logprobs": logprobs,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 400, "completion_tokens": 5, "total_tokens": 405},
        "system_fingerprint": OWNER,
    }
    return orjson.dumps(answer)


def _response(body: bytes, status: bytes = b"200 OK") -> bytes:
    return (
        b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
    ) + body


def _variants_response(variants: Sequence[str]) -> bytes:
    return _response(_answer(orjson.dumps({"variants": list(variants)}).decode(), None))


class Server:
    """Slots, a queue, and counters."""

    def __init__(
        self,
        slots: int,
        seconds: float,
        queue: int = 1_000_000,
        spread: float = 0.0,
        alternatives: int = 0,
        distinct: bool = False,
    ) -> None:
        """``spread``: answers take up to this share more or less than ``seconds``. ``distinct``: no variant
        is written twice.
        """
        self._distinct = distinct
        self._slots = slots
        self._busy = 0
        self._seconds = seconds
        self._queue = queue
        self._spread = spread
        self._line: deque[_Connection] = deque()
        self.calls = self.in_flight = self.most = self.refused = self.answered = 0
        self._full = _response(
            b'{"error":{"message":"The queue is full","type":"ServiceUnavailableError","code":429}}',
            b"429 Too Many Requests",
        )
        self._label = _response(completion(alternatives=alternatives))
        self._variants = _variants_response(_VARIANTS)
        self._models = _response(orjson.dumps({"object": "list", "data": [{"id": MODEL, "owned_by": OWNER}]}))

    def stats(self) -> bytes:
        counts = {
            "calls": self.calls,
            "answered": self.answered,
            "refused": self.refused,
            "in_flight": self.in_flight,
            "max_in_flight": self.most,
            "waiting": len(self._line),
        }
        return _response(orjson.dumps({"server": OWNER, **counts}))

    def asked(self, line: bytes, body: bytes, connection: _Connection) -> None:
        if line.startswith(b"POST /v1/chat/completions"):
            self.calls += 1
            connection.due = self._written() if b'"variants"' in body else self._label
            room = self._slots < 0 or self._busy < self._slots
            if not room and len(self._line) >= self._queue:
                self.refused += 1
                connection.answer(self._full)
                return
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            if room:
                self._begin(connection)
            else:
                self._line.append(connection)
        elif line.startswith(b"POST /manner"):
            asked = orjson.loads(body)
            self._slots = asked.get("slots", self._slots)
            self._queue = asked.get("queue", self._queue)
            self._seconds = asked.get("seconds", self._seconds)
            self._go_on()
            connection.answer(self.stats())
        elif line.startswith(b"GET /v1/models"):
            connection.answer(self._models)
        elif line.startswith(b"GET /stats"):
            connection.answer(self.stats())
        elif line.startswith(b"GET /health"):
            connection.answer(_response(b"{}"))
        else:
            connection.answer(_response(b'{"error":{"message":"Not Found"}}', b"404 Not Found"))

    def _written(self) -> bytes:
        if not self._distinct:
            return self._variants
        name = str(self.calls).translate(_LETTERS)
        return _variants_response([f"{text}, говорит {name}" for text in _VARIANTS])

    def _begin(self, connection: _Connection) -> None:
        self._busy += 1
        seconds = self._seconds
        if self._spread:
            seconds *= random.uniform(1 - self._spread, 1 + self._spread)
        asyncio.get_running_loop().call_later(seconds, self._end, connection)

    def _end(self, connection: _Connection) -> None:
        self._busy -= 1
        self.in_flight -= 1
        self.answered += 1
        connection.answer(connection.due)
        self._go_on()

    def _go_on(self) -> None:
        while self._line and (self._slots < 0 or self._busy < self._slots):
            following = self._line.popleft()
            if following.closed:
                self.in_flight -= 1
            else:
                self._begin(following)


class _Connection(asyncio.Protocol):
    def __init__(self, server: Server) -> None:
        self._server = server
        self._transport: Any = None
        self._buffer = b""
        self.closed = False
        self.due = b""  # the answer to what was asked last

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        line, body = self._buffer[:80], self._buffer[end + 4 : end + 4 + length]
        self._buffer = self._buffer[end + 4 + length :]
        self._server.asked(line, body, self)

    def answer(self, response: bytes) -> None:
        if not self.closed:
            self._transport.write(response)


@contextlib.contextmanager
def endpoint(
    *,
    slots: int = -1,
    seconds: float = 0.005,
    queue: int = 1_000_000,
    spread: float = 0.0,
    alternatives: int = 0,
    distinct: bool = False,
    port: int = 0,
) -> Iterator[str]:
    """A running stand-in; yields its base URL, ending in /v1. ``port`` 0: any free one."""
    if not port:
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
    words = ["--port", str(port), "--slots", str(slots), "--seconds", str(seconds)]
    words += ["--queue", str(queue), "--spread", str(spread), "--alternatives", str(alternatives)]
    words += ["--distinct"] if distinct else []
    process = subprocess.Popen([sys.executable, "-m", "bench.endpoint", *words])
    try:
        base = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 20
        while True:
            try:
                urllib.request.urlopen(f"{base}/health", timeout=2).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield f"{base}/v1"
    finally:
        process.terminate()
        process.wait(10)


def stats_of(base: str) -> dict[str, Any]:
    """The counters of the stand-in at ``base`` (ending in /v1); the product's own stand-in has them too."""
    with urllib.request.urlopen(base.removesuffix("/v1") + "/stats", timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def change(base: str, **manner: float) -> None:
    """Change the behaviour of the stand-in at ``base``: ``change(base, slots=16)``."""
    request = urllib.request.Request(
        base.removesuffix("/v1") + "/manner", data=orjson.dumps(manner), method="POST"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        answer.read()


async def _serve(host: str, port: int, server: Server) -> None:
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), host, port, backlog=4096)
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    await stop.wait()
    listening.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--slots", type=int, default=-1)
    parser.add_argument("--seconds", type=float, default=0.005)
    parser.add_argument("--queue", type=int, default=1_000_000)
    parser.add_argument("--spread", type=float, default=0.0)
    parser.add_argument("--alternatives", type=int, default=0)
    parser.add_argument("--distinct", action="store_true")
    given = parser.parse_args()
    server = Server(given.slots, given.seconds, given.queue, given.spread, given.alternatives, given.distinct)
    uvloop.run(_serve(given.host, given.port, server))


if __name__ == "__main__":
    main()
