"""The review queue in a real browser: by keyboard, by two people, in two processes."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser

from connectors.local.processes import free_port
from streams.quality.agreement import kappa
from tests.browser.desk import (
    KEYS,
    OTHER,
    SECONDS,
    WRITE,
    Desk,
    Watched,
    answers,
    called,
    mistakes,
    shipped,
    watched,
)
from tests.waiting import PATIENCE, eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def claimed(client: httpx.AsyncClient, desk: str, want: int, key: str) -> list[dict[str, Any]]:
    answer = await client.post(
        "/review/claim", params={"want": want}, headers={"X-Desk": desk, "X-API-Key": key}
    )
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["rows"]
    return found


def human(desk: Desk) -> dict[str, tuple[str, str]]:
    """Row id to the current label and who gave it, where a person did."""
    rows = desk.flow.rows(
        f"SELECT row_id, toString(label), toString(model) FROM {desk.flow.database}.logs_labeled_current "
        "WHERE label_version = 'human'"
    )
    return {row_id: (label, model) for row_id, label, model in rows}


async def test_twenty_rows_by_keyboard_and_two_reviewers_never_share_one(desk: Desk, chrome: Browser) -> None:
    desk.insert(shipped(120), hours=1)
    desk.flow.wait(lambda: desk.flow.count("logs_labeled") >= 100, "labelled rows")
    context = await chrome.new_context(locale="en-GB", viewport={"width": 1360, "height": 900})
    at = await watched(context, desk.urls[0])
    await at.sign_in(WRITE)
    await at.show("review")
    given: dict[str, str] = {}
    for number in range(20):
        await at.page.wait_for_selector(".subject[data-key]", timeout=SECONDS)
        # Where the key is pressed before the next row is there, it would label another one.
        button = at.page.locator(".choices button").nth(number % 3)
        label = await button.get_attribute("data-label")
        key = await at.page.locator(".subject").get_attribute("data-key")
        assert label
        assert key
        given[bytes.fromhex(key.partition(".")[2]).decode()] = label
        await at.page.keyboard.press(str(number % 3 + 1))
    assert len(given) == 20

    # In the other process somebody else, and the same person in another tab, at the same time.
    async with (
        httpx.AsyncClient(base_url=desk.urls[1], timeout=PATIENCE) as second,
        httpx.AsyncClient(base_url=desk.urls[0], timeout=PATIENCE) as first,
    ):
        asked = [
            claimed(one, f"tab-{number}", 5, key)
            for number, (one, key) in enumerate(
                [(first, OTHER), (second, OTHER), (first, WRITE), (second, WRITE)] * 2
            )
        ]
        got = [row["key"] for rows in await asyncio.gather(*asked) for row in rows]
    desk.flow.wait(lambda: len(human(desk)) >= 20, "twenty human labels in the current view")
    # What the person at the keyboard has by now.
    answer = await called(at.page, "POST", "/review/claim?want=10", {})
    mine = [row["key"] for row in answer["told"]["rows"]]
    twice = [key for key, count in Counter([*got, *mine]).items() if count > 1]
    assert twice == []
    assert len(got) == 40
    assert len(mine) == 10
    assert not {bytes.fromhex(key.partition(".")[2]).decode() for key in got + mine} & set(given)

    assert human(desk) == {row_id: (label, "human:anna") for row_id, label in given.items()}
    # They are on the labelled topic, where subscribers find them as any other label.
    published = [
        json.loads(message.value)
        for message in await desk.flow.topic("labeled")
        if dict(message.headers).get("label-version") == (b"human")
    ]
    assert {one["row_id"]: one["label"] for one in published} == given
    assert all(one["confidence"] is None for one in published)

    # Undo takes the last one back, and the row can be labelled anew.
    await at.page.keyboard.press("u")
    last = list(given)[-1]
    await at.page.wait_for_function(
        f"() => document.querySelector('.subject')?.dataset.key.endsWith('.{last.encode().hex()}')",
        timeout=SECONDS,
    )
    desk.flow.wait(lambda: human(desk)[last][1].endswith(":undo"), "the label is taken back")
    gold = await read_gold(desk, "jsonl")
    assert {one["row_id"]: one["label"] for one in gold} == {k: v for k, v in given.items() if k != last}
    await at.page.keyboard.press("2")
    desk.flow.wait(lambda: human(desk)[last][1] == "human:anna", "the row has its second label")
    gold = await read_gold(desk, "csv")
    assert {one["row_id"]: one["label"] for one in gold} == {
        one: label for one, (label, _) in human(desk).items()
    }
    assert len(gold) == 20
    assert mistakes(at) == []

    # The command line judges the model by it.
    judged = desk.told("evaluate", str(await gold_file(desk)), "--version", "v1")
    models = dict(
        desk.flow.rows(
            f"SELECT row_id, toString(label) FROM {desk.flow.database}.logs_labeled "
            "WHERE label_version = 'v1'"
        )
    )
    right = sum(models[one["row_id"]] == one["label"] for one in gold)
    assert (judged["gold"], judged["labeled"], judged["right"]) == (20, 20, right)
    assert judged["accuracy"] == right / 20


async def test_a_random_audit_by_two_people_and_its_disagreement_settled(desk: Desk, chrome: Browser) -> None:
    """Every row is drawn here, and every one is for two people.

    Requests of the pages pass the test's loop, so it must not be held up while they are under way.
    """
    flow = desk.flow
    url = f"http://127.0.0.1:{(port := free_port())}"
    flow.start("api", API_PORT=str(port), REVIEW_AUDIT_SHARE="1", REVIEW_OVERLAP="1")
    flow.wait(lambda: answers(url), "the API with another share")
    desk.insert(shipped(40), hours=0.1)
    rows = f"SELECT count() FROM {flow.database}.logs"
    unlabeled = f"{rows} WHERE toString(id) NOT IN (SELECT row_id FROM {flow.database}.logs_labeled)"
    flow.wait(lambda: flow.rows(unlabeled) == [(0,)], "labelled rows")
    given: dict[str, dict[str, str]] = {}
    pages: list[Watched] = []
    for key, name, locale in ((WRITE, "anna", "en-GB"), (OTHER, "boris", "ru-RU")):
        context = await chrome.new_context(locale=locale, viewport={"width": 1360, "height": 900})
        at = await watched(context, url)
        pages.append(at)
        await at.sign_in(key)
        await at.show("review")
        await at.page.locator("[data-queue=audit]").focus()
        await at.page.keyboard.press("Enter")
        given[name] = await audited(at, 20, first=2 if name == "anna" else 1)
        # Not one row comes with the model's answer, nor with anybody else's.
        more = await called(at.page, "POST", "/review/claim?want=3&queue=audit", {})
        assert {name for row in more["told"]["rows"] for name in row} == {
            *("row_id", "created_at", "text", "key")
        }
        assert await at.page.locator(".queue .muted, .choices .share:not(:empty)").count() == 0
        await eventually(lambda name=name: len(audit_of(desk, name)) >= 20, f"what {name} answered")  # type: ignore[misc]
    assert {name: audit_of(desk, name) for name in given} == given
    stored = flow.rows(
        f"SELECT DISTINCT toString(drawn_by), draw_probability FROM {flow.database}.logs_labeled "
        "WHERE label_version = 'human' AND drawn_by = 'audit'"
    )
    assert stored == [("audit", 1.0)]
    common = given["anna"].keys() & given["boris"].keys()
    # Both are asked about the same rows in the same order, in whichever browser.
    assert len(common) == 20
    differing = [row for row in common if given["anna"][row] != given["boris"][row]]
    assert differing

    boris = pages[1]
    pairs = [(given["anna"][row], given["boris"][row]) for row in common]
    pairs = [pair for pair in pairs if "not-sure" not in pair]

    async def counted() -> dict[str, Any]:
        told: dict[str, Any] = (await called(boris.page, "GET", "/review"))["told"]
        return told

    async def all_counted() -> bool:
        return bool((await counted())["doubled"] == len(pairs))

    await eventually(all_counted, "rows that two people answered", pause=0.5)
    assert (await counted())["kappa"] == pytest.approx(kappa(pairs))
    assert (await counted())["disagreements"] == sum(one != other for one, other in pairs)
    await boris.page.keyboard.press("q")
    await boris.page.keyboard.press("q")
    await boris.page.wait_for_selector("#review-answers", timeout=SECONDS)
    row = await shown_row(boris)
    told = await boris.page.inner_text("#review-answers")
    assert " / " in told
    label = await boris.page.locator(".choices button").first.get_attribute("data-label")
    await boris.page.keyboard.press("1")
    await eventually(lambda: len(settled_of(desk)) == 1, "one disagreement is settled")
    assert settled_of(desk) == {row: label}
    gold = {one["row_id"]: one for one in await read_gold(desk, "jsonl")}
    found = {name: gold[row][name] for name in ("label", "labeled_by", "drawn_by")}
    assert found == {"label": label, "labeled_by": "boris", "drawn_by": "disagreements"}

    # What is right of each row, by hand: what was settled, else what the second or the first was sure of in
    # the audit, else what somebody said of it as an unsure row before.
    before = dict(
        flow.rows(
            f"SELECT row_id, argMax(toString(label), labeled_at) FROM {flow.database}.logs_labeled "
            "WHERE label_version = 'human' AND drawn_by = 'unsure' GROUP BY row_id"
        )
    )
    told_of = {
        row: [given["boris"][row], given["anna"][row], *([before[row]] if row in before else [])]
        for row in common
    }
    sure = {row: [one for one in some if one != "not-sure"] for row, some in told_of.items()}
    right = {row: some[0] for row, some in sure.items() if some} | settled_of(desk)
    models = dict(
        flow.rows(
            f"SELECT row_id, toString(label) FROM {flow.database}.logs_labeled WHERE label_version = 'v1'"
        )
    )
    by_hand = sum(models[row] == one for row, one in right.items()) / len(right)
    judged = await asyncio.to_thread(desk.told, "evaluate", "--version", "v1")
    assert (judged["drawn"], judged["biased"], judged["kappa"]) == (
        len(right),
        False,
        pytest.approx(kappa(pairs)),
    )
    assert judged["accuracy"] == pytest.approx(by_hand)
    await boris.show("quality")
    await boris.page.wait_for_selector("dl[data-version=v1]", timeout=SECONDS)
    shown = await boris.page.locator("#quality-accuracy").get_attribute("data-value")
    assert float(shown or "nan") == judged["accuracy"]
    for at in pages:
        assert mistakes(at) == []


async def audited(at: Watched, rows: int, *, first: int) -> dict[str, str]:
    """Answer by keyboard: labels in turn, at one row that none fits, at one that one is not sure."""
    given: dict[str, str] = {}
    for number in range(rows):
        await at.page.wait_for_selector(".subject[data-key]", timeout=SECONDS)
        row = await shown_row(at)
        choices = at.page.locator(".choices button")
        place = number % first
        answer = await choices.nth(place).get_attribute("data-label") or ""
        key = str(place + 1)
        if number in (3, 4):
            answer, key = ("no-label", "0") if number == 3 else ("not-sure", "n")
        given[row] = answer
        await at.page.keyboard.press(key)
        await at.page.wait_for_function(
            f"() => !document.querySelector('.subject')?.dataset.key.endsWith('.{row.encode().hex()}')",
            timeout=SECONDS,
        )
    return given


async def shown_row(at: Watched) -> str:
    """The id of the row that is to be answered."""
    key = await at.page.locator(".subject").get_attribute("data-key")
    assert key
    return bytes.fromhex(key.partition(".")[2]).decode()


def audit_of(desk: Desk, person: str) -> dict[str, str]:
    """What a person answered in the audit, by row."""
    found = dict(
        desk.flow.rows(
            f"SELECT row_id, toString(label) FROM {desk.flow.database}.logs_labeled "
            f"WHERE model = 'human:{person}' AND drawn_by = 'audit'"
        )
    )
    return found | dict(
        desk.flow.rows(
            f"SELECT row_id, toString(answer) FROM {desk.flow.database}.review_answers WHERE who = '{person}'"
        )
    )


def settled_of(desk: Desk) -> dict[str, str]:
    return dict(
        desk.flow.rows(
            f"SELECT row_id, toString(label) FROM {desk.flow.database}.logs_labeled "
            "WHERE drawn_by = 'disagreements'"
        )
    )


async def gold_file(desk: Desk) -> Path:
    """The gold set as it is downloaded."""
    place = desk.flow.folder / "gold.csv"
    async with httpx.AsyncClient(base_url=desk.urls[0], timeout=PATIENCE) as client:
        answer = await client.get("/review/gold", headers={"X-API-Key": WRITE})
    place.write_bytes(answer.content)
    return place


async def read_gold(desk: Desk, kind: str) -> list[dict[str, Any]]:
    async with httpx.AsyncClient(base_url=desk.urls[1], timeout=PATIENCE) as client:
        answer = await client.get("/review/gold", params={"format": kind}, headers={"X-API-Key": OTHER})
    assert answer.status_code == 200
    if kind == "csv":
        return list(csv.DictReader(io.StringIO(answer.text)))
    return [json.loads(line) for line in answer.text.splitlines()]


async def test_sessions_end_with_their_key_and_changes_need_the_page_s_token(desk: Desk) -> None:
    assert KEYS.startswith("anna:write")
    async with httpx.AsyncClient(base_url=desk.urls[0], timeout=PATIENCE) as client:
        assert (await client.get("/page/letters")).status_code == 401
        assert (await client.post("/session", json={"key": "wrong-key-wrong"})).status_code == 403
        begun = await client.post("/session", json={"key": WRITE})
        cookie = begun.headers["set-cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Secure" not in cookie
        token = begun.json()["csrf"]
        assert (await client.get("/page/letters")).status_code == 200
        # The other process knows it too.
        other = httpx.AsyncClient(base_url=desk.urls[1], cookies=client.cookies, timeout=PATIENCE)
        async with other:
            assert (await other.get("/session")).json()["name"] == "anna"
        body = {"version": "nobody"}
        for headers in ({}, {"X-CSRF-Token": "x"}, {"X-CSRF-Token": token, "Origin": "http://example.test"}):
            answer = await client.post("/page/versions/promote", json=body, headers=headers)
            assert answer.status_code == 403, headers
        answer = await client.post("/page/versions/promote", json=body, headers={"X-CSRF-Token": token})
        assert (answer.status_code, answer.json()["code"]) == (422, "unknown-version")
        https = await client.post(
            "/session", json={"key": WRITE}, headers={"Origin": f"https://{client.base_url.netloc.decode()}"}
        )
        assert "Secure" in https.headers["set-cookie"]
    wanted = {("unknown", "sign-in", "wrong-key"), ("anna", "version-promote", "unknown-version")}
    desk.flow.wait(
        lambda: (
            wanted
            <= set(
                desk.flow.rows(
                    f"SELECT who, toString(action), toString(result) FROM {desk.flow.database}.audit_log"
                )
            )
        ),
        "the audit tells of both",
    )
