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

from tests.browser.desk import KEYS, OTHER, SECONDS, WRITE, Desk, called, mistakes, shipped, watched
from tests.waiting import PATIENCE

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
