"""Three real Kafka brokers on one machine, and the hands that break them.

Each node is broker and controller, so that any one may be missing. What decides how a real cluster behaves
under these faults is left at Kafka's defaults: `replica.lag.time.max.ms` (30 s), `broker.session.timeout.ms`
(9 s), `unclean.leader.election.enable` (false). Topics get three replicas and `min.insync.replicas=2`, as
production clusters have.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiokafka.client import AIOKafkaClient
from confluent_kafka import KafkaException
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from connectors.kafka.connection import send_to_any_broker
from connectors.local import processes
from connectors.local.jars import ensure_jars
from connectors.local.kafka import KafkaNode, Security, kafka_answers
from tests.reassignment import AlterPartitionReassignments, ElectPreferredLeaders
from tests.replication_link import ReplicationLink
from tests.stack import shared_jars
from tests.waiting import PATIENCE

BROKERS = (1, 2, 3)
_PROPERTIES = """\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=CLIENT://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENT://127.0.0.1:{port},INTERNAL://127.0.0.1:{link_port}
listener.security.protocol.map=CLIENT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name=INTERNAL
log.dirs={log_dir}
auto.create.topics.enable=false
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
offsets.topic.num.partitions=6
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
transaction.state.log.num.partitions=6
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=6000
# What moves leaders back by itself would make a fault's end another fault.
auto.leader.rebalance.enable=false
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""
_CLUSTER_ID = "bGFiZWxzdHJlYW0tdGVzdA"  # 16 bytes in base64
_NOT_NEEDED = 84  # Kafka's code: that replica leads already
_GONE_SECONDS = 60.0


class ClusterNode(KafkaNode):
    """One of the three: the local stack's node with other settings."""

    __slots__ = ()

    def _cluster_arguments(self) -> list[str]:
        return ["-t", _CLUSTER_ID]  # of which these are: the voters are in the settings

    def _write_settings(self, log_dir: Path) -> None:
        text = (self.folder / "cluster.properties").read_text("utf-8")
        self._settings.write_text(text.replace("{log_dir}", str(log_dir)), "utf-8")


@dataclass(frozen=True)
class Place:
    """Where a partition lies: its leader (-1: none), replicas and in-sync replicas."""

    leader: int
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]


@dataclass
class Cluster:
    """The running brokers below ``folder``. Use `cluster_in`."""

    folder: Path
    _nodes: dict[int, ClusterNode] = field(default_factory=dict)
    _links: dict[int, ReplicationLink] = field(default_factory=dict)
    _running: dict[int, processes.Child] = field(default_factory=dict)
    _stopped: set[int] = field(default_factory=set)  # by SIGSTOP
    _internal: dict[int, str] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Bootstrap servers: all of them."""
        return ",".join(self._nodes[number].address for number in BROKERS)

    def address_of(self, broker: int) -> str:
        """One broker's address."""
        return self._nodes[broker].address

    @property
    def internal_address(self) -> str:
        """As `address`, of the listeners of the brokers themselves, which ask for nothing."""
        return ",".join(self._internal[number] for number in BROKERS)

    def up(self, properties: str = "", security: Security | None = None) -> None:
        """Prepare and start all; returns when each sees the others. ``properties`` go to each node.
        ``security``: how clients must connect.
        """
        if security is not None:
            listeners = f"CLIENT:{security.protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
            properties += f"listener.security.protocol.map={listeners}\n{security.properties()}"
        jars = ensure_jars(shared_jars())
        taken: list[int] = []

        def port() -> int:
            taken.append(processes.free_port(taken))
            return taken[-1]

        ports = {number: [port() for _ in range(4)] for number in BROKERS}
        voters = ",".join(f"{number}@127.0.0.1:{ports[number][1]}" for number in BROKERS)
        for number in BROKERS:
            client, controller, internal, link = ports[number]
            node = ClusterNode(self.folder / f"kafka-{number}", jars, client, controller, security)
            self._internal[number] = f"127.0.0.1:{link}"
            node.folder.mkdir(parents=True, exist_ok=True)
            text = _PROPERTIES.format(
                id=number,
                voters=voters,
                port=client,
                controller_port=controller,
                internal_port=internal,
                link_port=link,
                log_dir="{log_dir}",
            )
            (node.folder / "cluster.properties").write_text(text + properties, "utf-8")
            node.prepare()
            self._nodes[number] = node
            self._links[number] = ReplicationLink(link, internal)
            self._links[number].start()
        for number in BROKERS:
            self._launch(number)
        self.wait_for(lambda: len(self.alive()) == len(BROKERS), "three brokers")

    def down(self) -> None:
        """Kill all; their data is not needed any more."""
        for number in list(self._running):
            self.kill(number)
        for link in self._links.values():
            link.stop()

    def repair(self) -> None:
        """End every fault: all run, and replicate."""
        for number in BROKERS:
            self.mend_follower(number)
            if number in self._stopped:
                self.resume(number)
            if number not in self._running:
                self.start(number)
        self.wait_for(lambda: len(self.alive()) == len(BROKERS), "three brokers")

    # --- one broker ---

    def start(self, broker: int) -> None:
        """Start one that was killed or shut down; returns when it answers."""
        self._launch(broker)
        self.wait_for(lambda: kafka_answers(self.address_of(broker)), f"broker {broker}")

    def kill(self, broker: int) -> None:
        """kill -9, also while it is paused."""
        self._end(broker, signal.SIGKILL)

    def shut_down(self, broker: int) -> None:
        """SIGTERM: it hands its leaderships over first, as in a rolling restart."""
        self._end(broker, signal.SIGTERM)

    def pause(self, broker: int) -> None:
        """SIGSTOP: a stopped machine, a stalled disk, a lost zone."""
        self._stopped.add(broker)
        self._running[broker].signal(signal.SIGSTOP)

    def resume(self, broker: int) -> None:
        """SIGCONT."""
        self._running[broker].signal(signal.SIGCONT)
        self._stopped.discard(broker)

    def cut_follower(self, broker: int) -> None:
        """Hold up what ``broker`` fetches as a follower. It stays in its controller's session, and so in the
        in-sync replicas for `replica.lag.time.max.ms`; what it leads goes on."""
        for link in self._links.values():
            link.cut(broker)

    def mend_follower(self, broker: int) -> None:
        """The end of `cut_follower`."""
        for link in self._links.values():
            link.mend(broker)

    def log_of(self, broker: int) -> Path:
        """What the broker prints."""
        return self._nodes[broker].folder / "broker.log"

    # --- what the cluster knows ---

    def admin(self) -> AdminClient:
        """A client of its own for one look."""
        running = [n for n in BROKERS if n in self._running and n not in self._stopped]
        secured = self._nodes[BROKERS[0]].security is not None
        servers = ",".join(
            self._internal[number] if secured else self.address_of(number) for number in running or BROKERS
        )
        return AdminClient({"bootstrap.servers": servers, "log_level": 0, "socket.timeout.ms": 10_000})

    def alive(self) -> set[int]:
        """The brokers that are not fenced."""
        try:
            return set(self.admin().list_topics(timeout=10).brokers)
        except KafkaException:
            return set()

    def places(self, topic: str) -> dict[int, Place]:
        """Of each partition of ``topic``; empty while nobody tells."""
        try:
            found = self.admin().list_topics(topic, timeout=10).topics[topic]
        except KafkaException:
            return {}
        return {
            number: Place(part.leader, tuple(part.replicas), tuple(part.isrs))
            for number, part in found.partitions.items()
        }

    def leader(self, topic: str, partition: int) -> int:
        """The partition's leader, -1 if there is none."""
        place = self.places(topic).get(partition)
        return place.leader if place else -1

    def in_sync(self, topics: Sequence[str]) -> bool:
        """Whether every partition of ``topics`` has all its replicas in sync."""
        found = [place for topic in topics for place in self.places(topic).values()]
        return bool(found) and all(set(place.in_sync) == set(place.replicas) for place in found)

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float = PATIENCE) -> None:
        """Return when ``condition`` holds. ``what`` goes into the error of one that never does."""
        deadline = time.monotonic() + seconds
        while not condition():
            for broker, child in self._running.items():
                if not child.alive:
                    lines = processes.last_lines(self.log_of(broker))
                    raise AssertionError(f"broker {broker} has ended, waiting for {what}:\n{lines}")
            if time.monotonic() > deadline:
                raise AssertionError(f"the cluster has not: {what}")
            time.sleep(0.2)

    # --- topics ---

    def create(
        self,
        topic: str,
        placement: Mapping[int, Sequence[int]],
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Make ``topic`` with each partition on the brokers given, the first of them its leader."""
        admin = self.admin()
        made = NewTopic(
            topic,
            num_partitions=len(placement),
            replica_assignment=[list(placement[number]) for number in sorted(placement)],
            config=dict(config or {}),
        )
        admin.create_topics([made])[topic].result(60)
        self.wait_for(
            lambda: (
                {n: p.leader for n, p in self.places(topic).items()}
                == {n: brokers[0] for n, brokers in placement.items()}
            ),
            f"leaders of {topic}",
        )

    async def reassign(
        self, replicas: Mapping[str, Sequence[int]], only: Sequence[int] | None = None
    ) -> None:
        """Give every partition of each topic these replicas, or the partitions in ``only``; returns when it
        has begun."""
        partitions = {topic: sorted(self.places(topic) if only is None else only) for topic in replicas}
        wanted = {topic: (partitions[topic], brokers) for topic, brokers in replicas.items()}
        answer = await self._ask(AlterPartitionReassignments(wanted))
        codes = {code for _, found, _ in answer.responses for _, code, _, _ in found}
        assert answer.error_code == 0, answer
        assert codes == {0}, answer

    async def elect_preferred(self, topics: Sequence[str]) -> None:
        """Have the first replica of each partition lead it."""
        answer = await self._ask(
            ElectPreferredLeaders({topic: sorted(self.places(topic)) for topic in topics})
        )
        codes = {code for _, found in answer.results for _, code, _ in found}
        assert answer.error_code == 0, answer
        assert codes <= {0, _NOT_NEEDED}, answer

    async def _ask(self, request: Any) -> Any:
        client = AIOKafkaClient(bootstrap_servers=self.address)
        await client.bootstrap()
        try:
            return await send_to_any_broker(client, request)
        finally:
            await client.close()

    def configure(self, topic: str, name: str, value: str) -> None:
        """Set one of the topic's settings."""
        entry = ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        admin = self.admin()  # kept: an admin that is gone fails what it was asked
        for done in admin.incremental_alter_configs([resource]).values():
            done.result(60)

    def _launch(self, broker: int) -> None:
        assert broker not in self._running
        node = self._nodes[broker]
        node.prepare()
        self._running[broker] = processes.start(node.command(), self.log_of(broker))

    def _end(self, broker: int, number: signal.Signals) -> None:
        child = self._running.pop(broker)
        if broker in self._stopped:
            self._stopped.discard(broker)
            if number != signal.SIGKILL:
                child.signal(signal.SIGCONT)
        child.signal(number)
        deadline = time.monotonic() + _GONE_SECONDS
        while child.alive:
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
            time.sleep(0.02)


@contextlib.contextmanager
def cluster_in(folder: Path, properties: str = "", security: Security | None = None) -> Iterator[Cluster]:
    """Three brokers with their data in ``folder``, killed at the end whatever happens."""
    cluster = Cluster(folder)
    try:
        cluster.up(properties, security)
        yield cluster
    finally:
        cluster.down()
