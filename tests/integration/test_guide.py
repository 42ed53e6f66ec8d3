"""The guide's commands, run in its order on a real stack."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable

from tests.integration.pipeline import ROOT, Pipeline
from tests.integration.test_observability import create, insert
from tests.unit.repo.pages import GUIDE, labelstream_commands

ROWS = 24


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
            flow.wait(lambda: flow.count("logs_augmented") == ROWS, "all rows stored")
        else:
            ended = flow.command(*words)
            assert ended.returncode == 0, f"{words}\n{ended.stdout}\n{ended.stderr}\n{flow.explain()}"
            assert "Traceback" not in ended.stderr
        done.append(" ".join(words))
    assert len(done) > 15
    versions = json.loads(flow.command("versions", "list", "--json").stdout.strip().splitlines()[-1])
    found = {one["version"]: one for one in versions["versions"]}
    assert found["v1"]["current"]
    assert (found["v1"]["rows"], found["v2"]["rows"]) == (ROWS, ROWS)
    assert flow.count("logs_labeled_current") == ROWS
