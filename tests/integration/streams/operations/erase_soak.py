"""One user erased under traffic and kills: ``python -m tests.integration.streams.operations.erase_soak``.

10,000 users, of whom one has 300 rows, and all roles at work. Some rows have become dead letters, some were
labelled by people or are being reviewed, and there are an uploaded file and an export with the user. While
`labelstream erase` runs, it and each role are killed. Then the sink reads all topics again, and a backfill
the source table, which still has the user's rows. Exit code 1 if anything of the user is found, or a count
or another's row has changed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any

from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from streams.core.environment import load
from streams.core.topics import Topics
from streams.ports.lookups import Place
from streams.ports.review import item_key
from streams.review.leases import decision_message
from tests.faults.actors import Actor
from tests.faults.driver import initialise
from tests.faults.world import World, as_program, world
from tests.kafka_tools import last_values, reset_offsets
from tests.unit.connectors.files.test_strangers import received

NAME, HER = "erasing", "anna-of-all-users"
TABLES = ("logs_labeled", "logs_augmented", "dead_letters", "review_answers", "audit_log", "erasures")
_DAY = "toDateTime64('2026-03-01 00:00:00', 3, 'UTC')"
_OLD = "toDate(created_at) <= '2026-03-01'"
_STILL_SECONDS = 600.0
# Each so many rows of the user, and as many of others, cannot be labelled, or have a label of a person.
_FAILING, _JUDGED = 60, 15
_FAILS = "сломанная метка "
_KEPT = b'"text","domain","ts","user_id"\n"a ""b""\nc",,2026-03-01 12:00:00.000000Z,"user-1"\n'


async def run(parts: World, folder: Path, users: int, rows: int, chance: random.Random) -> list[str]:
    """What is wrong in the end."""
    environment = parts.environment(
        NAME, CLICKHOUSE_DOMAIN_COLUMN="none", CLICKHOUSE_SESSION_ID_COLUMN="none"
    )
    actors = {one: Actor(one, environment, folder) for one in ("poller-1", "agents-1", "sink-1")}
    erasing = Actor("erase-1", environment, folder)
    await _fill(parts, users, rows)
    hers = _ids(users, rows)
    failing = 2 * len(hers[::_FAILING])
    await asyncio.to_thread(initialise, actors["sink-1"])
    await parts.standin("POST", "/faults", [{"kind": "unknown_label", "match": _FAILS, "calls": "label"}])
    traffic: asyncio.Task[None] | None = None
    try:
        for actor in actors.values():
            actor.start()
        await _until_count(parts, "logs_augmented", users + rows - failing)
        await _until_count(parts, "dead_letters", failing)
        others_judged = [one + 1 for one in hers[1::_JUDGED]]
        await _judge(parts, erasing, folder, [*hers[1::_JUDGED], *others_judged])
        await _review(parts, environment, [hers[1], hers[1] + 1])
        export = await _files(folder / erasing.name)
        await asyncio.to_thread(erasing.run, "erase", "--user", HER, "--dry-run")
        before, others = await _counts(parts), await _others(parts)
        traffic = asyncio.create_task(_traffic(parts))
        reports = [await _erase(erasing, one, chance.uniform(10.5, 13)) for one in actors.values()]
        print(f"killed erasures ended with {reports}")
        code, log = await asyncio.to_thread(erasing.run, "erase", "--user", HER, "--json")
        report = json.loads(log.strip().splitlines()[-1])
        print(f"the last one: {code}, {json.dumps(report)}")
        code, log = await asyncio.to_thread(erasing.run, "erase", "--user", HER, "--json")
        second = json.loads(log.strip().splitlines()[-1])
        traffic.cancel()
        await asyncio.to_thread(actors["sink-1"].leave)
        await reset_offsets(parts.kafka, f"{NAME}-sink")
        actors["sink-1"].start()
        since, until = "2026-02-28T00:00:00Z", "2026-03-02T00:00:00Z"
        _, log = await asyncio.to_thread(
            erasing.run, "backfill", "--since", since, "--until", until, "--json"
        )
        print(f"backfill: {log.strip().splitlines()[-1][:300]}")
        await _until_still(parts)
        _, gold = await asyncio.to_thread(erasing.run, "gold", "export")
    finally:
        if traffic is not None:
            traffic.cancel()
        await asyncio.gather(*(asyncio.to_thread(actor.leave) for actor in actors.values()))
    wrong = [*_files_left(folder / erasing.name, export), *await _topics_left(parts, hers)]
    exported = {line.split(",")[0] for line in gold.splitlines()}
    if exported & set(map(str, hers)) or not exported & set(map(str, others_judged)):
        wrong.append(f"gold exported: {sorted(exported)[:50]}")
    if not report["complete"] or any(second["found"].values()):
        wrong.append(f"something was left: {report['left']}, a second erasure found {second['found']}")
    for table in TABLES:
        ((found,),) = await parts.query(
            f"SELECT count() FROM {NAME}.{table} WHERE position(toString(tuple(*)), '{HER}') > 0"
        )
        if found:
            wrong.append(f"{table}: {found} lines name the user")
        if table not in ("audit_log", "erasures"):
            ids = ", ".join(f"'{one}'" for one in hers)
            ((found,),) = await parts.query(f"SELECT count() FROM {NAME}.{table} WHERE row_id IN ({ids})")
            if found:
                wrong.append(f"{table}: {found} lines have ids of the user's rows")
    if await _counts(parts) != before:
        wrong.append("counts by label and day have changed")
    if await _others(parts) != others:
        wrong.append("rows of others have changed")
    return wrong


def _ids(users: int, rows: int) -> list[int]:
    """Of the user's rows."""
    step = (users + rows) // rows
    return list(range(0, step * rows, step))


async def _judge(parts: World, erasing: Actor, folder: Path, rows: list[int]) -> None:
    """People label ``rows``."""
    path = folder / "gold.csv"
    path.write_text("row_id,label\n" + "".join(f"{one},payment\n" for one in rows), "utf-8")
    code, log = await asyncio.to_thread(erasing.run, "gold", "import", str(path))
    assert code == 0, log
    wanted = f"SELECT count() FROM {NAME}.logs_labeled WHERE label_version = 'human'"
    for _ in range(600):
        if (await parts.query(wanted))[0][0] >= len(rows):
            return
        await asyncio.sleep(1)
    raise TimeoutError("people's labels are stored")


async def _review(parts: World, environment: dict[str, str], rows: list[int]) -> None:
    """Somebody skips ``rows``."""
    times = dict(
        await parts.query(
            f"SELECT row_id, created_at FROM {NAME}.logs_labeled WHERE label_version != 'human' "
            f"AND row_id IN ({', '.join(repr(str(one)) for one in rows)})"
        )
    )
    producer = LeasedProducer(connection(load(environment, None)))
    try:
        for row_id, at in times.items():
            key = item_key(Place(at.replace(tzinfo=UTC), row_id), "unsure")
            await producer.send(decision_message(Topics(NAME), key, "vera/1", "skip"))
    finally:
        await producer.stop()


async def _files(data: Path) -> Path:
    """Uploads of the user and of another one, and an export with both, below ``data``."""
    for who in (HER, "user-1"):
        await received(data, f"text,user_id\nне могу войти в кабинет,{who}\n".encode())
    export = data / "exports" / "clickhouse_20260301.csv"
    export.parent.mkdir(parents=True)
    export.write_bytes(_KEPT + f'"d",,2026-03-01 12:00:00.000000Z,"{HER}"\n'.encode())
    return export


def _files_left(data: Path, export: Path) -> list[str]:
    """What is wrong with the files below ``data``."""
    uploads = list((data / "uploads").glob("*.data"))
    if export.read_bytes() == _KEPT and len(uploads) == 1 and HER.encode() not in uploads[0].read_bytes():
        return []
    return [f"files: {export.read_bytes()!r}, {uploads}"]


async def _topics_left(parts: World, hers: list[int]) -> list[str]:
    """What compacted topics have of the user, whose rows are ``hers``."""
    wrong = []
    ids = {str(one).encode().hex() for one in hers}
    for topic in ("review", "cursor"):
        for key, value in (await last_values(parts.kafka, f"{NAME}.{topic}")).items():
            named = HER in f"{key} {value!r}" or key.partition(".")[2].partition("/")[0] in ids
            if value is not None and named:
                wrong.append(f"{NAME}.{topic}: {key} {value!r}")
    return wrong


async def _fill(parts: World, users: int, rows: int) -> None:
    failing = ", ".join(str(one + more) for one in _ids(users, rows)[::_FAILING] for more in (0, 2))
    await parts.command(f"CREATE DATABASE {NAME}")
    await parts.command(
        f"CREATE TABLE {NAME}.logs (id UInt64, query_text String, created_at DateTime64(3, 'UTC'), "
        "user_id String) ENGINE = MergeTree ORDER BY created_at"
    )
    await parts.command(
        f"INSERT INTO {NAME}.logs SELECT number, concat(if(number IN ({failing}), '{_FAILS}', "
        "'где мой заказ номер '), toString(number % 500)), "
        f"{_DAY} + toIntervalSecond(number), "
        f"if(number % {(users + rows) // rows} = 0 AND number < {(users + rows) // rows * rows}, '{HER}', "
        f"concat('user-', toString(number))) FROM numbers({users + rows})"
    )


async def _traffic(parts: World) -> None:
    """Rows of today, ten a second."""
    number = 10_000_000
    while True:
        await parts.command(
            f"INSERT INTO {NAME}.logs SELECT {number} + number, 'где мой новый заказ', now64(3), "
            "concat('late-', toString(number)) FROM numbers(10)"
        )
        number += 10
        await asyncio.sleep(1)


async def _erase(erasing: Actor, victim: Actor, seconds: float) -> str:
    """Begin to erase, kill a role meanwhile and the erasure after ``seconds``, and start the role again."""
    began = await asyncio.to_thread(erasing._launched, "erase", "--user", HER, "--json")
    await asyncio.sleep(seconds / 2)
    await asyncio.to_thread(victim.kill)
    await asyncio.sleep(seconds / 2)
    victim.start()
    killed = began.poll() is None
    if killed:
        began.kill()
    code = await asyncio.to_thread(began.wait)
    return f"{'killed' if killed else code} after {seconds:.1f} s, {victim.name} killed"


async def _until_count(parts: World, table: str, count: int) -> None:
    began = time.monotonic()
    while True:
        ((found,),) = await parts.query(f"SELECT count() FROM {NAME}.{table}")
        if found >= count:
            return
        if time.monotonic() - began > _STILL_SECONDS * 3:
            raise TimeoutError(f"{found} of {count} rows are in {table}")
        await asyncio.sleep(1)


async def _until_still(parts: World) -> None:
    """Until nothing was stored for a while: no count says when what must not come has not come."""
    last: Any = None
    for _ in range(int(_STILL_SECONDS / 5)):
        now = [await parts.query(f"SELECT count() FROM {NAME}.{table}") for table in TABLES]
        if now == last:
            return
        last = now
        await asyncio.sleep(20)


async def _counts(parts: World) -> Counter[Any]:
    asked = [
        f"SELECT '{table}', toString(label_version), toDate(created_at), toString(label), count()\n"
        f"FROM {NAME}.{table} WHERE {_OLD} GROUP BY ALL"
        for table in ("logs_labeled", "logs_augmented", "logs_labeled_current")
    ]
    found: Counter[Any] = Counter()
    for sql in asked:
        for *key, count in await parts.query(sql):
            found[tuple(map(str, key))] += int(count)
    return found


async def _others(parts: World) -> list[Any]:
    return [
        await parts.query(
            f"SELECT count(), groupBitXor(cityHash64(toString(tuple(*)))) FROM {NAME}.{table}\n"
            f"WHERE {_OLD} AND user_id != '{HER}' AND NOT startsWith(row_id, 'erased:')"
        )
        for table in ("logs_labeled", "logs_augmented")
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=300, help="of the user who is erased")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    as_program()
    with tempfile.TemporaryDirectory() as folder, world(Path(folder) / "stack") as parts:
        wrong = asyncio.run(run(parts, Path(folder), given.users, given.rows, random.Random(given.seed)))
    print("\n".join(wrong) if wrong else "nothing of the user is left, and nothing else has changed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
