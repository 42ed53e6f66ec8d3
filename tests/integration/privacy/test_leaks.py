"""With masking on, nothing personal is found behind the source table, whatever way a row takes."""

from __future__ import annotations

import json
from collections.abc import Callable

from connectors.local.processes import free_port
from tests.integration.file_service import Service, csv_of
from tests.integration.pipeline import Pipeline
from tests.integration.privacy.leaks import (
    SECRET,
    Tap,
    answers,
    clean_texts,
    create,
    everything,
    insert,
    kill_workers,
)
from tests.integration.privacy.search import Search
from tests.integration.privacy.secrets import rows_of, secrets

ROWS, MORE = 200, 50


async def test_nothing_personal_leaves_the_source_table(make: Callable[..., Pipeline]) -> None:
    port = free_port()
    flow = make(
        API_PORT=str(port),
        PRIVACY="mask",
        PRIVACY_SECRET=SECRET,
        LOG_FORMAT="json",
    )
    tap = Tap(flow.llm.removeprefix("http://").removesuffix("/v1"))
    tap.open()
    flow.environment |= dict.fromkeys(
        ("LLM_LABELER_API_BASE", "LLM_AUGMENTER_API_BASE"), f"http://127.0.0.1:{tap.port}/v1"
    )
    create(flow)
    service = Service(flow, port)
    made = secrets(ROWS + 3 * MORE, 1)
    rows = rows_of(made)
    in_file, asked = rows[ROWS + MORE : ROWS + 2 * MORE], made[ROWS + 2 * MORE :]
    insert(flow, 1, rows[:ROWS])
    roles = flow.start("poller", "agents", "sink")
    roles.append(service.start())
    timed = ROWS - ROWS // 50
    flow.wait(lambda: flow.count("logs_labeled") == timed, "the rows are labelled")
    # A masking process that is killed, and a poller that is: its rows are masked again.
    assert kill_workers(roles) > 0
    roles[0].kill()
    roles[0].wait()
    insert(flow, 1001, rows[ROWS : ROWS + MORE])
    roles[0] = flow.start("poller")[0]

    lines = [[row.text, "d", "2026-03-01 12:00:00", row.user or row.session or ""] for row in in_file]
    lines[-1][2] = in_file[-1].text  # a broken time
    upload = service.upload(csv_of(lines), f"{in_file[0].text}.csv")
    job = service.process(upload["file_id"], accept=True)["job_id"]
    said = service.told("POST", "/classify", json={"texts": [one.text for one in asked]})
    done = service.done(job)
    assert (done["published"], done["unreadable"]) == (MORE - 1, 1)
    fetched = service.told("POST", "/fetch-from-clickhouse")
    service.done(fetched["job_id"])
    labelled = timed + 2 * MORE - 2
    flow.wait(lambda: flow.count("logs_labeled") == labelled, "all rows are labelled, each once")
    flow.wait(lambda: flow.count("logs_augmented") == labelled, "all rows have variants")
    flow.wait(lambda: flow.count("dead_letters") == ROWS // 50 + 1, "rows without a time are dead letters")

    result = service.client.get(f"/jobs/{job}/result", params={"format": "jsonl"}).content
    places = await everything(flow)
    places += [("/classify", json.dumps(said, ensure_ascii=False).encode()), ("result", result)]
    places += [(f"model {at}", sent) for at, sent in enumerate(tap.sent)]
    places += list(answers(service))
    for x in Search(made, clean_texts()).found(places):
        print("LEAK", x[:300])  # XX
    assert Search(made, clean_texts()).found(places) == []
    masked = b"\n".join(content for _, content in places)
    for word in (
        "ТЕЛЕФОН",
        "ПОЧТА",
        "КАРТА",
        "ПАСПОРТ",
        "СНИЛС",
        "ИНН",
        "ПОЛИС",
        "СЧЁТ",
        "НОМЕР АВТО",
        "ИМЯ",
        "АДРЕС",
    ):
        assert f"[{word}".encode() in masked, word

    # What was stored is what a search for it finds nothing in; and without masking it finds it.
    scanned = flow.command("privacy", "scan", "--json")
    assert scanned.returncode == 0, scanned.stderr
    told = json.loads(scanned.stdout.strip().splitlines()[-1])
    assert told["found"] == []
    assert told["scanned"]["logs_labeled"] == labelled
    service.client.close()
    tap.close()
