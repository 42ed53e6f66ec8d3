"""`python -m connectors.llm.standin`: run the stand-in until it is stopped."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import ssl
import sys
from pathlib import Path

from aiohttp import web

from connectors.llm.standin.server import OWNER, Manner, StandIn
from connectors.llm.standin.words import scorer_from


def main() -> None:
    """Parse the arguments and serve."""
    parser = argparse.ArgumentParser(prog="python -m connectors.llm.standin", description=f"A {OWNER}.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000, help="0: any free port; it is printed")
    parser.add_argument("--taxonomy", type=Path, default=Path("taxonomy.yaml"))
    parser.add_argument("--model", action="append", help="a model name to offer; may be repeated")
    parser.add_argument("--slots", type=int, default=Manner.slots, help="answers at a time")
    parser.add_argument("--queue", type=int, default=Manner.queue, help="requests that may wait")
    parser.add_argument("--full-status", type=int, default=Manner.full_status, choices=(429, 503))
    parser.add_argument("--prefill-seconds", type=float, default=Manner.prefill_seconds)
    parser.add_argument("--token-seconds", type=float, default=Manner.token_seconds)
    parser.add_argument("--context", type=int, default=Manner.context, help="longest prompt, in tokens")
    parser.add_argument("--no-logprobs", action="store_true", help="answer `logprobs: null`")
    parser.add_argument("--no-metrics", action="store_true", help="have no /metrics")
    parser.add_argument("--api-key", help="refuse requests without this bearer key")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate: serve https")
    parser.add_argument("--tls-key", type=Path, help="PEM key of that certificate")
    given = parser.parse_args()
    manner = Manner(
        models=tuple(given.model or Manner.models),
        slots=given.slots,
        queue=given.queue,
        full_status=given.full_status,
        prefill_seconds=given.prefill_seconds,
        token_seconds=given.token_seconds,
        context=given.context,
        logprobs=not given.no_logprobs,
        metrics=not given.no_metrics,
        api_key=given.api_key,
    )
    tls = None
    if given.tls_cert is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(given.tls_cert, given.tls_key)
    standin = StandIn(scorer_from(given.taxonomy), manner)
    if sys.platform == "win32":
        asyncio.run(serve(standin, given.host, given.port, tls))
        return
    import uvloop

    uvloop.run(serve(standin, given.host, given.port, tls))


async def serve(standin: StandIn, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
    """Serve until SIGTERM or SIGINT; prints the address once it listens."""
    # handler_cancellation: a client that disconnects frees its slot, as with vLLM.
    runner = web.ServerRunner(
        web.Server(standin.handle, handler_cancellation=True, access_log=None), shutdown_timeout=1.0
    )
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls, backlog=4096)
    await site.start()
    address = runner.addresses[0]
    scheme = "https" if tls else "http"
    print(f"listening on {scheme}://{address[0]}:{address[1]}/v1 ({OWNER})", flush=True)
    stop = asyncio.Event()
    with contextlib.suppress(NotImplementedError):
        for name in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await stop.wait()
    await runner.cleanup()


if __name__ == "__main__":
    main()
