"""The guide's commands, run in its order on a real stack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.test_observability import create, insert
from tests.unit.repo.pages import GUIDE, QUALITY, labelstream_commands

ROWS = 24
JUDGED = 240


def test_the_guide_s_commands_do_what_it_says(make: Callable[..., Pipeline]) -> None:
    flow = make(LABEL_VERSION="v1")
    create(flow)
    insert(flow, 0, ROWS)
    shutil.copy(ROOT / "taxonomy.yaml", flow.folder)
    new = (ROOT / "taxonomy.yaml").read_text("utf-8")
    (flow.folder / "new.yaml").write_text(new.replace("Доставка заказа", "Доставка посылки", 1), "utf-8")
    done: list[str] = []
    for words in labelstream_commands(GUIDE):
        words = [word.replace("esk.", f"{flow.prefix}.") for word in words]
        if words == ["run", "all"]:
            # Each role by itself, as the guide says one may; the same processes, without the API's port.
            flow.start("poller", "agents", "sink")
            flow.wait_for_variants(ROWS, "all rows stored")
        else:
            ended = flow.command(*words)
            assert ended.returncode == 0, f"{words}\n{ended.stdout}\n{ended.stderr}\n{flow.explain()}"
            assert "Traceback" not in ended.stderr
        done.append(" ".join(words))
    assert len(done) > 15
    versions = last_json(flow.command("versions", "list", "--json").stdout)
    found = {one["version"]: one for one in versions["versions"]}
    assert found["v1"]["current"]
    assert (found["v1"]["rows"], found["v2"]["rows"]) == (ROWS, ROWS)
    assert flow.count("logs_labeled_current") == ROWS
    judge_labels(flow)


def judge_labels(flow: Pipeline) -> None:
    """The commands of the guide on quality, on the rows that the user guide has labelled and some more: with
    as many drawn ones a calibration is fitted, and a version is found not worse.
    """
    insert(flow, ROWS, JUDGED - ROWS)
    flow.wait(lambda: flow.count("logs_labeled_current") == JUDGED, "more rows labelled")
    gold = flow.folder / "gold.csv"
    labels = [f"{number},{('delivery', 'payment')[number % 2]},0.5" for number in range(JUDGED)]
    head = "row_id,label,draw_probability"
    gold.write_text("\n".join([head, *labels, "999999,refund,", "1,no such label,", ""]), "utf-8")
    refused = flow.command("gold", "import", "gold.csv", "--json")
    assert refused.returncode == 1, refused.stderr
    told = last_json(refused.stdout)
    assert (told["imported"], told["unchanged"]) == (JUDGED, 0)
    assert [(one["row"], one["name"]) for one in told["refused"]] == [(JUDGED + 2, "1")]
    assert [(one["row"], one["name"]) for one in told["absent"]] == [(JUDGED + 1, "999999")]
    people = f"SELECT row_id FROM {flow.database}.logs_labeled WHERE label_version = 'human'"
    flow.wait(lambda: len(flow.rows(people)) == JUDGED, "the labels of people stored")

    gold.write_text("\n".join([head, *labels, ""]), "utf-8")
    said: dict[str, str] = {}
    for words in labelstream_commands(QUALITY):
        # The user guide has promoted v2 already.
        words = [word.replace("v2", "v3") for word in words]
        ended = flow.command(*words)
        assert ended.returncode == 0, f"{words}\n{ended.stdout}\n{ended.stderr}\n{flow.explain()}"
        said[" ".join(words)] = ended.stdout
    assert f"0 labels published, {JUDGED} were there already" in said["gold import gold.csv"]
    judged = last_json(said["evaluate gold.csv --version v1 --json"])
    assert (judged["gold"], judged["labeled"], judged["biased"]) == (JUDGED, JUDGED, False)
    assert f"of {JUDGED} gold rows are doubtful" in said["gold suspects"]
    assert str(JUDGED) in said["versions calibrate"]
    assert "not worse" in said["versions promote v3"]
    assert "v3" in said["evaluate --version v3"]
    listed = last_json(flow.command("versions", "list", "--json").stdout)
    assert [one["version"] for one in listed["versions"] if one["current"]] == ["v3"]
    # What was written is known already.
    again = flow.command("gold", "import", "all-gold.csv", "--json")
    assert last_json(again.stdout)["unchanged"] == JUDGED
    assert len(flow.rows(people)) == JUDGED


def last_json(printed: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed.strip().splitlines()[-1])
    return found
