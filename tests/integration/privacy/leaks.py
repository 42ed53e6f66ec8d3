"""Personal data by chance, put in wherever rows come in, and a search for it wherever they come out."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import urllib.request
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil

from tests.fork_server import Forked
from tests.integration.pipeline import Door, Pipeline
from tests.waiting import PATIENCE

ENTITIES = "phone,email,card,snils"
SECRET = "1:a secret for the search of leaks"
_CARRIERS = (
    "не приходит код на {}, помогите",
    "мои данные: {} где мой заказ",
    "перезвоните, пожалуйста. {}",
    "{} это мой, верните деньги",
)
_TOPICS = ("rows", "replay", "labeled", "labeled.shadow", "augmented", "dead-letter")
_COMPACTED = ("cursor", "review")  # of one partition


def secrets(count: int, seed: int) -> list[str]:
    """Phones, addresses, cards and SNILS as people write them, each another one."""
    chance = random.Random(seed)
    made: dict[str, None] = {}
    while len(made) < count:
        made[chance.choice((_phone, _mail, _card, _snils))(chance)] = None
    return list(made)


def texts(found: Sequence[str]) -> list[str]:
    """A query around each."""
    return [_CARRIERS[at % len(_CARRIERS)].format(one) for at, one in enumerate(found)]


def _digits(chance: random.Random, count: int) -> str:
    return "".join(chance.choice("0123456789") for _ in range(count))


def _phone(chance: random.Random) -> str:
    tail = _digits(chance, 7)
    form = chance.choice(("+7 9{0} {1}-{2}-{3}", "8(9{0}){1}-{2}-{3}", "89{0}{1}{2}{3}", "+79{0}{1}{2}{3}"))
    return form.format(_digits(chance, 2), tail[:3], tail[3:5], tail[5:])


def _mail(chance: random.Random) -> str:
    name = "".join(chance.choice("abcdefghkmnprstuvz") for _ in range(9))
    return f"{name}{_digits(chance, 3)}@{chance.choice(('mail.ru', 'yandex.ru', 'example.com'))}"


def _card(chance: random.Random) -> str:
    body = chance.choice(("4276", "5469", "2202")) + _digits(chance, 11)
    total = 0
    for at, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if at % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    number = body + str(-total % 10)
    return chance.choice((number, " ".join(number[at : at + 4] for at in range(0, 16, 4))))


def _snils(chance: random.Random) -> str:
    number = "1" + _digits(chance, 8)
    check = sum(int(digit) * (9 - at) for at, digit in enumerate(number)) % 101 % 100
    return f"СНИЛС {number[:3]}-{number[3:6]}-{number[6:]} {check:02}"


def _core(secret: str) -> str:
    """What of a secret must not be found: without the word before it."""
    return secret.removeprefix("СНИЛС ")


class Tap(Door):
    """A port before a server; keeps what is sent to it."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.sent: list[bytes] = []
        self._last: dict[socket.socket, bytes] = {}

    def close(self) -> None:
        """End every connection too."""
        super().close()
        for one in self._connected:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def passes(self, source: socket.socket, data: bytes, asks: bool) -> None:
        if asks:
            self.sent.append(self._last.get(source, b"") + data)  # a secret may be cut in two
            self._last[source] = data


def create(flow: Pipeline) -> None:
    """A source table with users and sessions whose rows may have no time, topics and result tables."""
    client = flow.clickhouse()
    client.command(f"CREATE DATABASE {flow.database}")
    client.command(
        f"CREATE TABLE {flow.database}.logs (id UInt64, query_text String, domain Nullable(String), "
        "created_at Nullable(DateTime), user_id Nullable(String), session_id Nullable(String)) "
        "ENGINE = MergeTree ORDER BY id"
    )
    client.close()
    done = flow.command("init")
    assert done.returncode == 0, done.stderr


def insert(flow: Pipeline, first: int, found: Sequence[str]) -> None:
    """Rows with a secret in the text, in the user, in the session or in the domain; each 50th has no time."""
    now = datetime.now(UTC)
    rows = []
    for at, (secret, text) in enumerate(zip(found, texts(found), strict=True)):
        user, session = (secret, None) if at % 3 == 0 else (None, secret)
        when = None if at % 50 == 49 else now - timedelta(seconds=at % 60)
        domain = f"тема {secret}" if at % 7 == 0 else "заказы"
        rows.append([first + at, text, domain, when, user, session])
    names = ["id", "query_text", "domain", "created_at", "user_id", "session_id"]
    client = flow.clickhouse()
    client.insert("logs", rows, column_names=names, database=flow.database)
    client.close()


def metrics(flow: Pipeline) -> Iterator[tuple[str, bytes]]:
    """State and metrics of each role."""
    for note in (flow.folder / "data" / "run").glob("*.json"):
        url = json.loads(note.read_text())["url"]
        for path in ("/metrics", "/state"):
            try:
                with urllib.request.urlopen(url + path, timeout=PATIENCE) as answer:
                    yield f"{note.stem}{path}", answer.read()
            except OSError:
                continue  # it was killed


async def everything(flow: Pipeline) -> list[tuple[str, bytes]]:
    """All that is on the topics, in the tables but the source, in the logs, and what the roles tell."""
    places: list[tuple[str, bytes]] = []
    for topic in (*_TOPICS, *_COMPACTED):
        for message in await flow.topic(topic, partitions=1 if topic in _COMPACTED else 4):
            parts = (message.key or b"", message.value or b"", *(value for _, value in message.headers))
            places.append((f"topic {topic}/{message.partition}/{message.offset}", b"\n".join(parts)))
    tables = flow.rows(f"SELECT name FROM system.tables WHERE database = '{flow.database}'")
    for (name,) in tables:
        if name != "logs":
            content = repr(flow.rows(f"SELECT * FROM {flow.database}.{name}"))
            places.append((f"table {name}", content.encode("utf-8", "replace")))
    places += [(log.name, log.read_bytes()) for log in flow.folder.glob("*.log")]
    places += [
        (f"export {one.name}", one.read_bytes()) for one in (flow.folder / "data" / "exports").glob("*")
    ]
    return [*places, *metrics(flow)]


def leaks(found: Sequence[str], places: Sequence[tuple[str, bytes]]) -> list[str]:
    """Where a secret was found, as it was written or its digits alone."""
    told = []
    for place, content in places:
        for secret in found:
            core = _core(secret)
            digits = "".join(one for one in core if one.isdigit())
            written = [core.encode()] + ([digits.encode()] if len(digits) >= 10 else [])
            if any(one in content for one in written):
                told.append(f"{place}: {secret}")
    return told


def kill_workers(roles: Sequence[Forked]) -> int:
    """Kill the masking processes of ``roles``; how many there were."""
    killed = 0
    for role in roles:
        for child in psutil.Process(role.pid).children(recursive=True):
            if "streams.privacy.worker" in child.cmdline():
                child.kill()
                killed += 1
    return killed


def answers(service: Any) -> Iterator[tuple[str, bytes]]:
    """What the API says of rows, jobs and dead letters."""
    paths = ["/labels", "/labels?limit=200", "/jobs", "/page/overview", "/page/letters"]
    for path in paths:
        answer = service.client.get(path)
        yield path, answer.content
