"""A canary on the real parts: each drawn row once, in the shadow only, whoever is killed, and its end."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from streams.canary.source import in_canary
from streams.core.environment import load
from streams.core.times import moment
from streams.ports.lookups import Place
from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.replaying import OLD, V1, current, insert, labels, once, told

ROWS, SHARE = 240, 0.3


def drawn(flow: Pipeline) -> set[str]:
    """The rows with a live label that belong to the canary."""
    settings = load({"TOPIC_PREFIX": flow.prefix, "CLICKHOUSE_DATABASE": flow.database})
    rows = flow.rows(
        f"SELECT row_id, toUnixTimestamp64Micro(created_at) FROM {flow.database}.logs_labeled "
        "WHERE label_version = 'v1'"
    )
    return {row_id for row_id, at in rows if in_canary(settings, SHARE, Place(moment(at), row_id))}


def canary(flow: Pipeline) -> dict[str, Any]:
    found: dict[str, Any] = told(flow, "versions", "canary")["canary"]
    return found


async def test_a_canary_labels_its_share_once_stops_on_a_loss_and_promotes_by_the_gate(
    make: Callable[..., Pipeline], tmp_path: Path
) -> None:
    whole = yaml.safe_load((ROOT / "taxonomy.yaml").read_text("utf-8"))
    (tmp_path / "whole.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    whole["domains"] = [one for one in whole["domains"] if one["name"] == "other"] + whole["domains"][:3]
    (tmp_path / "less.yaml").write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    flow = make(TAXONOMY_PATH=str(tmp_path / "whole.yaml"), **V1)
    flow.create()
    insert(flow, 1, ROWS, OLD)
    (poller,) = flow.start("poller")
    (worker,) = flow.start("agents")
    flow.start("sink")
    flow.wait(lambda: flow.count("logs_labeled") == ROWS, "all rows labelled")

    rivals = [
        flow.begin("versions", "canary", name, "--share", "0.5", log=name, errors=f"{name}.err")
        for name in ("a", "b")
    ]
    codes = [one.wait() for one in rivals]
    winner = canary(flow)["version"]
    assert (sorted(codes), winner) == ([0, 1], "ab"[codes.index(0)])
    assert f"a canary of {winner} runs" in flow.log("ab"[codes.index(1)] + ".err")
    told(flow, "versions", "canary", "stop")
    begun = told(flow, "versions", "canary", "v2", "--share", str(SHARE), "--taxonomy", "less.yaml")
    assert begun["state"] == "waiting"
    again = flow.command("versions", "canary", "v3", "--share", "0.1")
    assert again.returncode == 1
    assert "a canary of v2 runs" in again.stderr
    insert(flow, ROWS + 1, ROWS, datetime.now(UTC))
    flow.wait(lambda: len(labels(flow, "v2")) > 10, "some rows of the canary labelled")
    for one in (poller, worker):
        one.kill()
        one.wait()
    insert(flow, 2 * ROWS + 1, ROWS, datetime.now(UTC))
    flow.start("poller", "agents")
    before = {str(row) for row in range(1, ROWS + 1)}  # they were labelled before it began
    flow.wait(lambda: len(labels(flow, "v1")) == 3 * ROWS, "all live rows labelled")
    wanted = drawn(flow) - before
    flow.wait(lambda: len(labels(flow, "v2")) >= len(wanted), "all rows of the canary labelled")
    assert set(labels(flow, "v2")) == wanted
    assert await once(flow, "labeled.shadow", "v2") == wanted
    assert await once(flow, "labeled", "v2") == set()
    assert Counter(message.key.decode() for message in await flow.topic("replay")) == dict.fromkeys(wanted, 1)

    with (tmp_path / "gold.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("row_id", "label"), *labels(flow, "v1").items()])
    told(flow, "gold", "import", "gold.csv")
    flow.wait(lambda: canary(flow)["state"] == "stopped", "the canary stopped by itself")
    found = canary(flow)
    assert found["stopped"]["why"] == "loss"
    assert found["figures"]["pairs"] == found["figures"]["compared"] == len(wanted)
    assert found["figures"]["judged"]["lost"] > 0
    assert found["figures"]["judged"]["won"] == 0
    first, second = labels(flow, "v1"), labels(flow, "v2")
    differ = sum(first[row] != second[row] for row in wanted)
    assert found["figures"]["agreement"] == round(1 - differ / len(wanted), 4)
    assert {version for version, _ in current(flow).values()} == {"human"}

    # One that decides the same: the gate needs its labels of the rows that people judged, and gets them.
    told(flow, "versions", "canary", "v3", "--share", str(SHARE), "--promote-when-better")
    flow.wait(lambda: canary(flow)["state"] == "stopped", "the canary ended")
    found = canary(flow)
    assert found["stopped"]["why"] == "promoted", found
    assert found["figures"]["gate"]["answer"] == "not worse"
    shown = {one["version"]: one for one in told(flow, "versions", "list")["versions"]}
    assert shown["v3"]["current"]
    assert await once(flow, "labeled.shadow", "v3") == set(labels(flow, "v3"))
    assert len(labels(flow, "v3")) >= 0.9 * 3 * ROWS
    assert await once(flow, "labeled", "v3") == set()
