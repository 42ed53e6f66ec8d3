"""``python -m connectors.local.clickhouse --path DIR --port N``: run the front until it is stopped."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvicorn

from connectors.local.clickhouse.app import Front
from connectors.local.clickhouse.engine import Engine
from connectors.local.clickhouse.errors import EngineError

log = structlog.get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="connectors.local.clickhouse", description=__doc__)
    parser.add_argument("--path", type=Path, required=True, help="folder of the store")
    parser.add_argument("--port", type=int, required=True, help="port on 127.0.0.1")
    parser.add_argument("--user", default="default")
    parser.add_argument("--password-env", metavar="VAR", help="environment variable that holds the password")
    parser.add_argument("--tls-cert", type=Path, help="PEM certificate chain: serve https")
    parser.add_argument("--tls-key", type=Path, help="PEM key of that certificate")
    options = parser.parse_args(arguments)
    password = os.environ.get(options.password_env, "") if options.password_env else ""
    try:
        engine = Engine(options.path.resolve())
    except EngineError as error:
        print(f"the store in {options.path} cannot be opened: {error.text}", file=sys.stderr)
        return 1
    log.info("clickhouse front starts", port=options.port, path=str(options.path), version=engine.version)
    server = uvicorn.Server(
        uvicorn.Config(
            Front(engine, options.user, password),
            host="127.0.0.1",
            port=options.port,
            ssl_certfile=options.tls_cert,
            ssl_keyfile=options.tls_key,
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=1,
            # clickhouse-connect keeps idle connections far longer than uvicorn's 5 s; a closed one costs a
            # retry.
            timeout_keep_alive=300,
        )
    )
    # When it is done, uvicorn raises again the signal that stopped it; the store has to be closed before
    # that.
    for stop in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stop, lambda *_: None)
    server.run()
    engine.close()
    # Threads that wait in the engine would block the interpreter; their work has been cancelled.
    sys.stdout.flush()
    os._exit(0 if server.started else 1)


if __name__ == "__main__":
    sys.exit(main())
