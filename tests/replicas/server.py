"""`python -m tests.replicas.server`: one replica, the local front over an engine that replicates."""

from __future__ import annotations

import sys
from pathlib import Path

from connectors.local.clickhouse import __main__ as front
from connectors.local.clickhouse import engine
from tests.replicas.engine_patch import let_replicate
from tests.replicas.part_exchange import serve_parts


def main(store: Path, config: Path, port: int, parts_port: int) -> int:
    """Serve on ``port``, and parts on ``parts_port``, until stopped."""
    let_replicate(parts_port)

    class Connection(engine.Connection):
        def __init__(self, path: Path) -> None:
            super().__init__(Path(f"{path}?config-file={config}"))

    engine.Connection = Connection  # type: ignore[misc]
    known: dict[str, Path] = {}

    def path_of(replica: str) -> Path:
        if replica not in known:
            connection = Connection(store)
            try:
                known[replica] = Path(
                    connection.query(
                        "SELECT t.data_paths[1] FROM system.replicas AS r JOIN system.tables AS t\n"
                        "ON t.database = r.database AND t.name = r.table\n"
                        f"WHERE r.replica_path = {engine.literal(replica)}",
                        "TabSeparatedRaw",
                    )
                    .bytes()
                    .decode()
                    .strip()
                    or "/nowhere"
                )
            finally:
                connection.close()
        return known[replica]

    serve_parts(parts_port, store, path_of)
    return front.main(["--path", str(store), "--port", str(port)])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])))
