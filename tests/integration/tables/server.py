"""A ClickHouse of a time zone, with a cluster of itself: the local front, started as its own process.

``python -m tests.integration.tables.server CONFIG --path DIR --port N``.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from connectors.local.clickhouse import engine
from connectors.local.clickhouse.__main__ import main
from connectors.local.processes import free_port

CLUSTER = "here"
# Of two shards, which are this process; and one of whose shards nothing listens.
SHARDS, CUT = "shards", "cut"
# The node is known to be this process by its port; nothing listens there.
_NODE, _NOBODY = (f"<host>127.0.0.1</host><port>{port}</port>" for port in (9000, 1))


def _cluster(name: str, *shards: str) -> str:
    return f"<{name}>{''.join(f'<shard><replica>{one}</replica></shard>' for one in shards)}</{name}>"


_CLUSTERS = _cluster(CLUSTER, _NODE) + _cluster(SHARDS, _NODE, _NODE) + _cluster(CUT, _NODE, _NOBODY)
_CONFIG = f"""<clickhouse><tcp_port>9000</tcp_port><remote_servers>{_CLUSTERS}</remote_servers>
<users_config>{{users}}</users_config></clickhouse>"""
# Of the table `policed.source` the user sees the rows that are for everybody.
_USERS = """<clickhouse><profiles><default/></profiles><quotas><default/></quotas><users><default>
<password></password><networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>
<databases><policed><source><filter>for_everybody</filter></source></policed></databases>
</default></users></clickhouse>"""
_SECONDS = 300


@contextlib.contextmanager
def server(folder: Path, zone: str) -> Iterator[tuple[str, int]]:
    """Yields its host and port."""
    folder.mkdir(parents=True, exist_ok=True)
    config, port = folder / "config.xml", free_port()
    users = folder / "users.xml"
    users.write_text(_USERS)
    config.write_text(_CONFIG.format(users=users))
    arguments = [sys.executable, "-m", __name__, str(config), "--path", str(folder / "store")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*arguments, "--port", str(port)],
            cwd=Path(__file__).parents[3],
            env={**os.environ, "TZ": zone},
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _SECONDS
        while not _answers(port):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield "127.0.0.1", port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


class _Clustered(engine.Connection):
    config = ""

    def __init__(self, path: Path) -> None:
        from chdb.state.sqlitelike import Connection

        self._chdb = Connection(f"{path}?config-file={self.config}")


if __name__ == "__main__":
    _Clustered.config = sys.argv[1]
    engine.Connection = _Clustered  # type: ignore[misc]
    sys.exit(main(sys.argv[2:]))
