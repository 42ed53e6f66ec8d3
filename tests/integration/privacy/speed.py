"""What does masking cost the poller? ``make soak-privacy-speed ARGS="--rows 100000 --json"``.

The same source table is published with `PRIVACY=off`, with ClickHouse making the messages and without, with
`PRIVACY=mask` without names, and with names over a tenth of the rows. No two texts are equal, 15 in 100 have
digits: a phone, an order, a sum. CPU time is of the poller and of its masking processes, a core being one CPU
second a second; `pool MB` is what these processes hold.
"""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
from pydantic import SecretStr

from bench.harness import options, report, say, stack
from bench.running import make_topics, role, stamps, watch, with_settings
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.privacy.entities import Entity

_QUERIES = Path(__file__).resolve().parents[3] / "connectors" / "local" / "data" / "queries.csv"
_SYLLABLES = ("ка", "ло", "ми", "ну", "ре", "са", "ти", "во", "ду", "же")
_WITH_DIGITS = (
    ", мой телефон +7 912 {:03}-{:02}-{:02}",
    ", заказ {1}{0:03}{2:02}{1:02}",
    ", списали {0} руб {1} коп",
)
_SECRET = SecretStr("1:the secret of the bench")
_NUMBERS = ",".join(one for one in Entity if one is not Entity.NAME)


class _Tree(psutil.Process):
    """The poller; its times are also those of its masking processes. ``pool``: the most bytes these had."""

    pool = 0

    def cpu_times(self) -> Any:
        """User and system seconds of all."""
        times = [super().cpu_times()]
        held = 0
        for child in self.children():
            try:
                times.append(child.cpu_times())
                held += child.memory_info().rss
            except psutil.Error:
                continue
        self.pool = max(self.pool, held)
        return SimpleNamespace(user=sum(one.user for one in times), system=sum(one.system for one in times))


def texts(count: int) -> list[str]:
    """Queries, each another one."""
    with _QUERIES.open(encoding="utf-8") as file:
        known = [row[1] for row in csv.reader(file)][1:]
    plain = [one for one in known if not any(char.isdigit() for char in one)]
    found = []
    for number in range(count):
        mark = "".join(_SYLLABLES[int(digit)] for digit in f"{number:05}")
        text = f"{plain[number % len(plain)]} {mark}"
        if number % 20 < 3:
            text += _WITH_DIGITS[number % 20].format(number % 1000, number % 89 + 10, number % 77 + 10)
        found.append(text)
    return found


def fill(settings: Settings, rows: int) -> None:
    """The source table, ten rows a millisecond from an hour ago on."""
    import clickhouse_connect

    driver = clickhouse_connect.get_client(host=settings.clickhouse_host, port=settings.clickhouse_port)
    driver.command(f"CREATE DATABASE IF NOT EXISTS {settings.clickhouse_database}")
    driver.command(
        f"CREATE TABLE {settings.clickhouse_database}.{settings.clickhouse_table} (id UInt64, "
        "query_text String, domain LowCardinality(String), created_at DateTime64(3, 'UTC'), user_id String, "
        "session_id String) ENGINE = MergeTree ORDER BY created_at"
    )
    begin = datetime.now(UTC) - timedelta(hours=1)
    driver.insert(
        settings.clickhouse_table,
        [
            [at, text, "delivery", begin + timedelta(milliseconds=at // 10), f"u{at % 5000}", f"s{at}"]
            for at, text in enumerate(texts(rows))
        ],
        column_names=["id", "query_text", "domain", "created_at", "user_id", "session_id"],
        database=settings.clickhouse_database,
    )
    driver.close()


def published(settings: Settings, rows: int) -> dict[str, float]:
    """Publish the first ``rows`` rows; the figures of the middle half."""
    make_topics(settings)
    topic = Topics(settings.topic_prefix).rows
    with role("poller", settings, settings.labelstream_data / settings.topic_prefix) as process:
        poller = _Tree(process.pid)
        seen = watch(settings, topic, rows, [poller])
    used = seen.cpu_between(rows // 4, 3 * rows // 4) / (rows // 2)
    sent = stamps(settings, topic)
    return {
        "rows/s": sum(at > sent[0] for at in sent) / max(sent[-1] - sent[0], 1e-3),
        "CPU us/row": used * 1e6,
        "rows/s a core": 1 / used,
        "pool MB": poller.pool / 1e6,
    }


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    chosen = parser.parse_args()
    rows = chosen.rows
    ways: dict[str, tuple[int, dict[str, Any]]] = {
        "off": (rows, {}),
        "off, Python makes the messages": (rows, {"privacy_secret": _SECRET}),
        "without names": (
            rows,
            {"privacy_secret": _SECRET, "privacy": "mask", "privacy_entities": _NUMBERS},
        ),
        "with names": (rows // 10, {"privacy_secret": _SECRET, "privacy": "mask"}),
    }
    figures = {}
    with stack() as settings:
        for number, count in enumerate((rows, rows // 10)):
            fill(with_settings(settings, clickhouse_table=f"logs{number}"), count)
        for number, (name, (count, changes)) in enumerate(ways.items()):
            table = f"logs{int(count < rows)}"
            here = with_settings(settings, topic_prefix=f"m{number}", clickhouse_table=table, **changes)
            figures[name] = published(here, count)
            say(f"{name}: {figures[name]}")
    off, plain, numbers, names = figures.values()
    ratios = {
        "masking without names / off, both made in Python": numbers["rows/s"] / plain["rows/s"],
        "masking without names / off": numbers["rows/s"] / off["rows/s"],
        "rows/s a core, masking alone, without names": 1e6 / (numbers["CPU us/row"] - plain["CPU us/row"]),
        "rows/s a core, poller and masking, without names": numbers["rows/s a core"],
        "rows/s a core, poller and masking, with names": names["rows/s a core"],
        "MB of the masking processes, with names": names["pool MB"],
    }
    report(f"masking: {rows} rows", list(figures.items()), as_json=chosen.json, ratios=ratios)


if __name__ == "__main__":
    main()
