"""With masking on, nothing personal is found behind the source table, whatever way a row takes."""

from __future__ import annotations

import json
from collections.abc import Callable

from connectors.local.processes import free_port
from tests.integration.file_service import Service, csv_of
from tests.integration.pipeline import Pipeline
from tests.integration.privacy.leaks import (
    ENTITIES,
    SECRET,
    Tap,
    answers,
    create,
    everything,
    insert,
    kill_workers,
    leaks,
    secrets,
    texts,
)

ROWS, MORE = 200, 50


async def test_nothing_personal_leaves_the_source_table(make: Callable[..., Pipeline]) -> None:
    port = free_port()
    flow = make(
        API_PORT=str(port),
        PRIVACY="mask",
        PRIVACY_ENTITIES=ENTITIES,
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
    in_table, late, in_file, asked = (
        made[:ROWS],
        made[ROWS : ROWS + MORE],
        made[ROWS + MORE : ROWS + 2 * MORE],
        made[ROWS + 2 * MORE :],
    )
    insert(flow, 1, in_table)
    roles = flow.start("poller", "agents", "sink")
    roles.append(service.start())
    timed = ROWS - ROWS // 50
    flow.wait(lambda: flow.count("logs_labeled") == timed, "the rows are labelled")
    # A masking process that is killed, and a poller that is: its rows are masked again.
    assert kill_workers(roles) > 0
    roles[0].kill()
    roles[0].wait()
    insert(flow, 1001, late)
    roles[0] = flow.start("poller")[0]

    upload = service.upload(
        csv_of(
            [
                # The time of the last row is a secret, so it is broken.
                [text, "d", one if at == MORE - 1 else "2026-03-01 12:00:00", one]
                for at, (text, one) in enumerate(zip(texts(in_file), in_file, strict=True))
            ]
        ),
        f"{in_file[0]}.csv",
    )
    job = service.process(upload["file_id"], accept=True)["job_id"]
    said = service.told("POST", "/classify", json={"texts": texts(asked)})
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
    assert leaks(made, places) == [], flow.explain()
    masked = b"\n".join(content for _, content in places)
    assert all(word.encode() in masked for word in ("[ТЕЛЕФОН]", "[ПОЧТА]", "[КАРТА]", "[СНИЛС]"))

    # What was stored is what a search for it finds nothing in; and without masking it finds it.
    scanned = flow.command("privacy", "scan", "--json")
    assert scanned.returncode == 0, scanned.stderr
    told = json.loads(scanned.stdout.strip().splitlines()[-1])
    assert told["found"] == []
    assert told["scanned"]["logs_labeled"] == labelled
    service.client.close()
    tap.close()
