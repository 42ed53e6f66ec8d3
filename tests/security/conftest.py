"""Certificates made for the tests, and the parts of the local stack that ask for them and for passwords."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import SecretStr

from connectors.local import processes
from connectors.local.kafka import KafkaNode, Security, kafka_answers
from streams.settings import Settings, load
from tests.stack import shared_jars

SECRET = f"s3cret-{secrets.token_hex(8)}"
USER = "labelstream"
Protocol = Literal["SSL", "SASL_PLAINTEXT", "SASL_SSL"]


@dataclass(frozen=True)
class Certificates:
    """PEM files. The server's certificate is for 127.0.0.1 only: ``localhost`` is the wrong name."""

    ca: Path
    other_ca: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    both: Path


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, issued in (
        ("server", ca.issue_cert("127.0.0.1")),
        ("client", ca.issue_cert("client@internal")),
    ):
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        pkcs8 = key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        )  # Kafka reads no other form
        (folder / f"{name}.pem").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(pkcs8)
        (folder / f"{name}-both.pem").write_bytes(pkcs8 + chain)
    return Certificates(
        ca=folder / "ca.pem",
        other_ca=folder / "other-ca.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
        both=folder / "server-both.pem",
    )


def settings(**values: object) -> Settings:
    """What a person would set, by the way of the environment."""
    return load({name.upper(): str(value) for name, value in values.items()}, env_file=None)


@contextmanager
def kafka(
    folder: Path, protocol: Protocol, certificates: Certificates, *, ask: bool = False
) -> Iterator[int]:
    """A broker that lets clients in by ``protocol`` only; yields its port. ``ask``: for a client certificate."""
    ports: list[int] = []
    for _ in range(3):
        ports.append(processes.free_port(ports))
    port, controller, internal = ports
    security = Security(
        protocol,
        internal,
        certificate=certificates.both if protocol.endswith("SSL") else None,
        client_ca=certificates.ca if ask else None,
        users={USER: SecretStr(SECRET)} if protocol.startswith("SASL") else {},
    )
    node = KafkaNode(folder, sorted(shared_jars().glob("*.jar")), port, controller, security)
    node.prepare()
    with running(node.command(), folder / "kafka.log", lambda: kafka_answers(f"127.0.0.1:{internal}")):
        yield port


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """A process, from when it is ready to the end of the context."""
    child = processes.start(command, log)
    try:
        deadline = time.monotonic() + 90
        while not ready():
            assert child.alive, processes.last_lines(log)
            assert time.monotonic() < deadline, processes.last_lines(log)
            time.sleep(0.05)
        yield
    finally:
        processes.stop([child])


@pytest.fixture(scope="session")
def clickhouse(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    """The port of a ClickHouse that speaks https and knows one password."""
    folder, port = tmp_path_factory.mktemp("clickhouse"), processes.free_port()
    command = processes.python_module(
        "connectors.local.clickhouse",
        *("--path", str(folder / "store"), "--port", str(port), "--user", USER),
        *("--password-env", "TEST_CLICKHOUSE_PASSWORD"),
        *("--tls-cert", str(certificates.server), "--tls-key", str(certificates.server_key)),
    )
    os.environ["TEST_CLICKHOUSE_PASSWORD"] = SECRET
    try:
        with running(command, folder / "log", lambda: not processes.port_is_free(port)):
            yield port
    finally:
        del os.environ["TEST_CLICKHOUSE_PASSWORD"]


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[int]:
    """The port of an LLM stand-in that speaks https and asks for a key."""
    folder, port = tmp_path_factory.mktemp("llm"), processes.free_port()
    command = processes.python_module(
        "connectors.llm.standin",
        *("--port", str(port), "--taxonomy", "taxonomy.yaml", "--api-key", SECRET),
        *("--tls-cert", str(certificates.server), "--tls-key", str(certificates.server_key)),
    )
    with running(command, folder / "log", lambda: not processes.port_is_free(port)):
        yield port


@pytest.fixture(autouse=True)
def no_secret_is_told(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No test may end with a secret in what was printed or logged."""
    with caplog.at_level("DEBUG"):
        yield
    printed = capfd.readouterr()
    assert SECRET not in printed.out + printed.err + caplog.text
