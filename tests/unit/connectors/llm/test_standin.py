"""The stand-in behaves as its page says: vLLM's routes, slots and errors, and each fault."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import random
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web

from connectors.llm.load import load_in
from connectors.llm.standin.server import Manner, StandIn
from connectors.llm.standin.taught import QUERIES, Taught
from connectors.llm.standin.words import Scorer, reword, scorer_from
from tests.unit.connectors.llm.fakes import until
from tests.waiting import PATIENCE

TAXONOMY = Path(__file__).resolve().parents[4] / "taxonomy.yaml"
SCORER = scorer_from(TAXONOMY)
LABELS = list(SCORER.labels)


def label_request(text: str = "не пришёл код из смс", **changed: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": {"label": {"enum": LABELS}}}
    return {
        "model": "labelstream-standin",
        "messages": [
            {"role": "system", "content": "labels"},
            {"role": "user", "content": f"<query>\n{text}\n</query>"},
        ],
        "max_tokens": 60,
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}},
        "logprobs": True,
        "top_logprobs": 20,
    } | changed


@contextlib.asynccontextmanager
async def standin(**manner: Any) -> AsyncIterator[tuple[httpx.AsyncClient, StandIn]]:
    made = StandIn(SCORER, Manner(**({"prefill_seconds": 0.0, "token_seconds": 0.0} | manner)))
    runner = web.ServerRunner(
        web.Server(made.handle, handler_cancellation=True, access_log=None), shutdown_timeout=0.2
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = "http://{}:{}".format(*runner.addresses[0][:2])
    try:
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=PATIENCE) as client:
            yield client, made
    finally:
        await runner.cleanup()


async def ask(client: httpx.AsyncClient, text: str = "не пришёл код", **changed: Any) -> httpx.Response:
    return await client.post("/v1/chat/completions", json=label_request(text, **changed))


async def test_labels_come_from_the_schema_with_a_distribution() -> None:
    async with standin() as (client, _):
        choice = (await ask(client, "не могу войти в личный кабинет, забыл пароль")).json()["choices"][0]
        assert choice["message"]["content"] == '{"label":"account_access"}'
        content = choice["logprobs"]["content"]
        assert "".join(entry["token"] for entry in content) == choice["message"]["content"]
        assert all(len(entry["top_logprobs"]) <= 20 for entry in content)
        assert (await ask(client, logprobs=False)).json()["choices"][0]["logprobs"] is None


async def test_a_choice_by_letter_takes_one_token() -> None:
    system = "\n".join(
        f"{letter}. {name} (x): y" for letter, name in zip("ABCDEFGHIJKL", LABELS, strict=True)
    )
    messages = [
        {"role": "system", "content": system},
        {"role": "user", "content": "забыл пароль от кабинета"},
    ]
    expected = "ABCDEFGHIJKL"[LABELS.index("account_access")]
    for held in ({"structured_outputs": {"choice": list("ABCDEFGHIJKL")}}, {}):
        async with standin() as (client, _):
            answer = (await ask(client, messages=messages, max_tokens=1, response_format=None, **held)).json()
        assert answer["choices"][0]["message"]["content"] == expected
        assert answer["usage"]["completion_tokens"] == 1
        top = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        assert {one["token"] for one in top} == set("ABCDEFGHIJKL")


async def test_slots_queue_and_refusal() -> None:
    async with standin(slots=2, queue=1, prefill_seconds=60.0, full_status=429) as (client, made):
        calls = [asyncio.create_task(ask(client, f"вопрос {n}")) for n in range(3)]
        await until(lambda: made.stats.running == 2 and len(made._slots.waiting) == 1)
        load = load_in((await client.get("/metrics")).text)
        assert load == (2.0, 1.0)
        refused = await ask(client)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
        assert (await client.get("/stats")).json()["statuses"] == {"429": 1}
        for call in calls:
            call.cancel()
    async with standin(slots=2, queue=1, prefill_seconds=0.1) as (client, _):
        calls = [asyncio.create_task(ask(client, f"вопрос {n}")) for n in range(3)]
        assert [call.status_code for call in await asyncio.gather(*calls)] == [200] * 3
        stats = (await client.get("/stats")).json()
        assert stats["statuses"] == {"200": 3}
        assert stats["in_flight"] == 0
    async with standin(slots=1, queue=0) as (client, _):
        assert (await ask(client)).status_code == 200  # a free slot needs no queue


async def test_who_hangs_up_frees_the_slot() -> None:
    async with standin(slots=1, prefill_seconds=60.0) as (client, made):
        calls = [asyncio.create_task(ask(client)) for _ in range(3)]
        await until(lambda: made.stats.running == 1 and len(made._slots.waiting) == 2)
        for call in calls:
            call.cancel()
        await until(lambda: made.stats.running == 0 and not made._slots.waiting)
        await client.post("/manner", json={"prefill_seconds": 0.0})
        assert (await ask(client)).status_code == 200


async def test_slots_change_while_it_runs() -> None:
    async with standin(slots=4, prefill_seconds=60.0) as (client, made):
        calls = [asyncio.create_task(ask(client, f"{n}")) for n in range(12)]
        await until(lambda: (made.stats.running, len(made._slots.waiting)) == (4, 8))
        changed = await client.post("/manner", json={"slots": 6})
        assert changed.json()["slots"] == 6
        await until(lambda: (made.stats.running, len(made._slots.waiting)) == (6, 6))
        await client.post("/manner", json={"slots": 1})
        assert (made.stats.running, len(made._slots.waiting)) == (6, 6)  # what runs is not stopped
        for call in calls:
            call.cancel()
        await until(lambda: (made.stats.running, len(made._slots.waiting)) == (0, 0))
        again = [asyncio.create_task(ask(client, f"{n}")) for n in range(3)]
        await until(lambda: (made.stats.running, len(made._slots.waiting)) == (1, 2))
        for call in again:
            call.cancel()
        await client.post("/manner", json={"slots": 6})
        for wrong in ({"slots": "4"}, {"slots": -1}, {"colour": 1}, {"metrics": 1}, {"slots": True}, []):
            assert (await client.post("/manner", json=wrong)).status_code == 400
        assert (await client.get("/manner")).json()["slots"] == 6
        await client.post("/manner", json={"metrics": False})
        assert (await client.get("/metrics")).status_code == 404


async def test_requests_that_vllm_would_refuse() -> None:
    async with standin(context=50, api_key="key") as (client, _):
        assert (await ask(client)).status_code == 401
        client.headers["authorization"] = "Bearer key"
        long = await ask(client, "о" * 1000)
        assert long.status_code == 400
        assert "maximum context length is 50 tokens" in long.json()["error"]["message"]
        assert (await ask(client, model="other")).status_code == 404
        assert (await ask(client, top_logprobs=21)).status_code == 400
        assert (await ask(client, messages=[])).status_code == 400
        assert (await client.post("/v1/chat/completions", content=b"{")).status_code == 400
        assert (await client.get("/v1/nothing")).status_code == 404
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "labelstream-standin"


async def test_an_answer_that_does_not_fit_is_cut_off() -> None:
    async with standin() as (client, _):
        answer = (await ask(client, max_tokens=2)).json()
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens"] == 2


async def fault(client: httpx.AsyncClient, **what: Any) -> None:
    assert (await client.post("/faults", json=what)).status_code == 200


async def test_faults_of_the_status_and_of_the_body() -> None:
    async with standin() as (client, _):
        await fault(client, kind="status", status=503, retry_after="7")
        refused = await ask(client)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "7")
        for kind in ("garbage", "truncated_json"):
            await fault(client, kind=kind)
            answer = await ask(client)
            assert answer.status_code == 200
            with pytest.raises(ValueError, match=r"\S"):
                answer.json()
        await fault(client, kind="wrong_json")
        assert "choices" not in (await ask(client)).json()
        await client.delete("/faults")
        assert (await ask(client)).json()["choices"]


async def test_faults_of_the_connection() -> None:
    async with standin() as (client, _):
        for kind in ("drop", "cut"):
            await fault(client, kind=kind)
            with pytest.raises(httpx.TransportError):
                await ask(client)
        await fault(client, kind="hang")
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/v1/chat/completions", json=label_request(), timeout=0.3)


async def test_faults_of_the_answer() -> None:
    async with standin(prefill_seconds=0.01) as (client, _):
        for kind, holds in (
            ("bad_answer", lambda text, finish: "{" not in text),
            ("truncated_answer", lambda text, finish: not text.endswith("}") and finish == "length"),
            ("unknown_label", lambda text, finish: "no_such_label" in text),
        ):
            await fault(client, kind=kind)
            choice = (await ask(client)).json()["choices"][0]
            assert holds(choice["message"]["content"], choice["finish_reason"]), kind
        await fault(client, kind="slow", factor=30.0)
        began = time.monotonic()
        assert (await ask(client)).status_code == 200
        assert time.monotonic() - began >= 0.3


async def test_whom_a_fault_strikes_and_for_how_long() -> None:
    async with standin() as (client, made):
        await fault(client, kind="status", status=500, match="яд")
        assert (await ask(client, "яд")).status_code == 500
        assert (await ask(client, "мёд")).status_code == 200
        await fault(client, kind="status", status=500, calls="augment")
        assert (await ask(client)).status_code == 200
        await fault(client, kind="status", status=500, fraction=0.5, seed=3)
        first = [(await ask(client)).status_code for _ in range(20)]
        await fault(client, kind="status", status=500, fraction=0.5, seed=3)
        assert [(await ask(client)).status_code for _ in range(20)] == first
        assert set(first) == {200, 500}
        await fault(client, kind="status", status=500, seconds=0.05)
        await until(lambda: not made.faults.show())
        assert (await ask(client)).status_code == 200
        assert (await client.post("/faults", json={"kind": "no such"})).status_code == 400


async def test_it_counts_calls_and_texts() -> None:
    async with standin() as (client, _):
        for text in ("а б в", "а б в", "г д е"):
            await ask(client, text)
        stats = (await client.get("/stats")).json()
        assert stats["server"] == "stand-in, not a language model"
        assert (stats["calls"], stats["distinct_texts"], stats["repeated_calls"]) == (
            {"label": 3},
            {"label": 2},
            {"label": 1},
        )
        assert stats["distinct_system_parts"] == 1


@pytest.mark.parametrize("text", ["где мой заказ", "where is my order", "أين طلبي؟ رقم", "??", "👍", "да"])
def test_rewordings_differ_from_the_text_and_from_each_other(text: str) -> None:
    found = reword(text, 5)
    assert len(found) == len({*found}) == 5
    assert text not in found


def accuracy(scorer: Scorer, queries: Sequence[tuple[str, str]]) -> float:
    given = [max(found := scorer.probabilities(text), key=found.__getitem__) for text, _ in queries]
    return sum(one == label for one, (_, label) in zip(given, queries, strict=True)) / len(queries)


def test_it_labels_queries_better_that_it_was_not_taught() -> None:
    with QUERIES.open(encoding="utf-8", newline="") as file:
        queries = [(row["query_text"], row["domain"]) for row in csv.DictReader(file)]
    random.Random(1).shuffle(queries)
    parts = [queries[part::5] for part in range(5)]
    taught = words = 0.0
    for part, kept_back in enumerate(parts):
        others = [one for number, some in enumerate(parts) if number != part for one in some]
        taught += accuracy(scorer_from(TAXONOMY, Taught(others)), kept_back) / 5
        words += accuracy(scorer_from(TAXONOMY, Taught([])), kept_back) / 5
    assert words < 0.6 < 0.62 <= taught


def test_of_another_taxonomy_it_knows_the_words_alone(tmp_path: Path) -> None:
    other = tmp_path / "taxonomy.yaml"
    other.write_text("domains: [{name: roads, title: дороги}, {name: refund, title: возврат}]", "utf-8")
    text = "верните деньги за заказ"
    assert scorer_from(other).probabilities(text) == scorer_from(other, Taught([])).probabilities(text)
