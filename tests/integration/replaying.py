"""What the tests of replays share: rows that need a call each, two taxonomies, and what commands tell."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from tests.fork_server import Forked
from tests.integration.pipeline import ROOT, Pipeline

ROWS = 800
# Before the window in which a poller reads rows again and again.
OLD = datetime.now(UTC) - timedelta(hours=1)
V1 = {"LABEL_VERSION": "v1", "LLM_LABELER_CONCURRENCY": "64", "AUGMENT_VARIANTS": "0"}
ROLES = ("poller", "agents", "sink")
NEW = ("--version", "v2", "--taxonomy", "full.yaml", "--prompt", "prompt.txt")


def texts(count: int, mark: str) -> list[str]:
    """Queries, each another one, so that each needs a call."""
    with (ROOT / "connectors/local/data/queries.csv").open(encoding="utf-8") as file:
        known = [row[1] for row in csv.reader(file)][1:]
    return [f"{known[n % len(known)]} {mark}{n}" for n in range(count)]


def insert(flow: Pipeline, first: int, count: int, at: datetime, step: float = 0.0) -> None:
    """Rows ``first`` and on, ``step`` seconds apart."""
    client = flow.clickhouse()
    client.insert(
        "logs",
        [
            [first + n, text, at + timedelta(seconds=n * step)]
            for n, text in enumerate(texts(count, f"{flow.prefix}x{first}n"))
        ],
        column_names=["id", "query_text", "created_at"],
        database=flow.database,
    )
    client.close()


def two_taxonomies(make: Callable[..., Pipeline], tmp_path: Path) -> Pipeline:
    """Live version v1 knows nothing of deliveries; `full.yaml` is the taxonomy that does."""
    whole = yaml.safe_load((ROOT / "taxonomy.yaml").read_text("utf-8"))
    (tmp_path / "full.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    whole["domains"] = [one for one in whole["domains"] if one["name"] != "delivery"]
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    flow = make(TAXONOMY_PATH=str(tmp_path / "less.yaml"), **V1)
    flow.create()
    return flow


def write_prompt(flow: Pipeline) -> None:
    """The prompt that `NEW` names."""
    text = (ROOT / "agents/prompts/label.txt").read_text("utf-8")
    (flow.folder / "prompt.txt").write_text(f"Внимательно.\n{text}", "utf-8")


def told(flow: Pipeline, *words: str) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = flow.command(*words, "--json")
    assert done.returncode == 0, f"{done.stderr}\n{flow.explain()}"
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def begin(flow: Pipeline, *words: str) -> Forked:
    """A replay in the background."""
    return flow.begin(*words, log="replay")


def labels(flow: Pipeline, version: str) -> dict[str, str]:
    """Row id and label; each row of that version is stored once."""
    rows = flow.rows(
        f"SELECT row_id, toString(label) FROM {flow.database}.logs_labeled WHERE label_version = '{version}'"
    )
    doubled = _doubled(Counter(row_id for row_id, _ in rows))
    assert not doubled, f"stored twice under {version}: {doubled}"
    return dict(rows)


def current(flow: Pipeline) -> dict[str, tuple[str, str]]:
    rows = flow.rows(
        f"SELECT row_id, toString(label_version), toString(label) FROM {flow.database}.logs_labeled_current"
    )
    assert len({row[0] for row in rows}) == len(rows)
    return {row_id: (version, label) for row_id, version, label in rows}


async def once(flow: Pipeline, topic: str, version: str) -> set[str]:
    """The rows of that version on a topic, where each stands once."""
    found = Counter(
        message.key.decode()
        for message in await flow.topic(topic)
        if dict(message.headers)["label-version"] == version.encode()
    )
    doubled = _doubled(found)
    assert not doubled, f"twice on {topic} under {version}: {doubled}"
    return set(found)


def _doubled(found: Counter[str]) -> list[str]:
    """What is there more than once; ten of it are enough to look for."""
    return [row_id for row_id, count in found.items() if count > 1][:10]


def lag(flow: Pipeline) -> int:
    found = told(flow, "status")["topics"]
    return sum(sum(topic["lag"].values()) for topic in found.values())
