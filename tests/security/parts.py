"""Certificates made for the tests, and processes that ask for them and for passwords."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import SecretStr

from connectors.local import processes
from connectors.local.kafka import KafkaNode, Security, kafka_answers
from streams.core.environment import load
from streams.core.settings import Settings
from tests.stack import shared_jars
from tests.waiting import until

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
    locked_key: Path
    both: Path


def make_certificates(folder: Path) -> Certificates:
    """New ones, below ``folder``."""
    # Here: each process of the tests imports this module.
    import trustme
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        NoEncryption,
        PrivateFormat,
        load_pem_private_key,
    )

    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other-ca.pem"))
    for name, issued in (
        ("server", ca.issue_cert("127.0.0.1")),
        ("client", ca.issue_cert("client@internal")),
    ):
        chain = b"".join(one.bytes() for one in issued.cert_chain_pems)
        key = load_pem_private_key(issued.private_key_pem.bytes(), None)
        # Kafka reads a key in no other form.
        pkcs8 = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / f"{name}.pem").write_bytes(chain)
        (folder / f"{name}.key").write_bytes(pkcs8)
        (folder / f"{name}-both.pem").write_bytes(pkcs8 + chain)
    locked = BestAvailableEncryption(SECRET.encode())
    (folder / "locked.key").write_bytes(
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked)
    )  # the client's
    return Certificates(
        ca=folder / "ca.pem",
        other_ca=folder / "other-ca.pem",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
        locked_key=folder / "locked.key",
        both=folder / "server-both.pem",
    )


def settings(**values: object) -> Settings:
    """What a person would set, by the way of the environment."""
    return load({name.upper(): str(value) for name, value in values.items()}, env_file=None)


def chain_of(error: BaseException | None) -> str:
    """An error with all that a traceback would show behind it."""
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or error.__context__
    return " ".join(texts)


class Broker(NamedTuple):
    """Its ports: for clients, and for itself, where everybody may do everything. ``log``: what it prints."""

    port: int
    internal: int
    log: Path


@contextmanager
def kafka(
    folder: Path,
    protocol: Protocol,
    certificates: Certificates,
    *,
    ask: bool = False,
    users: Sequence[str] = (USER,),
    acls: bool = False,
) -> Iterator[Broker]:
    """A broker that lets clients in by ``protocol`` only. ``ask``: for a certificate. ``acls``: a user may do
    what `AccessLists` allow.
    """
    ports: list[int] = []
    for _ in range(3):
        ports.append(processes.free_port(ports))
    port, controller, internal = ports
    security = Security(
        protocol,
        internal,
        certificate=certificates.both if protocol.endswith("SSL") else None,
        client_ca=certificates.ca if ask else None,
        users={user: SecretStr(SECRET) for user in users} if protocol.startswith("SASL") else {},
        acls=acls,
    )
    node = KafkaNode(folder, sorted(shared_jars().glob("*.jar")), port, controller, security)
    node.prepare()
    log = folder / "kafka.log"
    with running(node.command(), log, lambda: kafka_answers(f"127.0.0.1:{internal}")):
        yield Broker(port, internal, log)


@contextmanager
def running(command: list[str], log: Path, ready: Callable[[], bool]) -> Iterator[None]:
    """A process, from when it is ready to the end of the context."""
    child = processes.start(command, log)
    try:

        def up() -> bool:
            assert child.alive, processes.last_lines(log)
            return ready()

        until(up, lambda: processes.last_lines(log), measure=lambda: processes.last_lines(log))
        yield
    finally:
        processes.stop([child])
    assert SECRET not in log.read_text("utf-8", "replace")
