"""The page in a real browser, over a running pipeline."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, ViewportSize
from pyarrow import parquet

from tests.browser.desk import (
    READ,
    SECONDS,
    VENDOR,
    VIEWS,
    WRITE,
    Desk,
    Watched,
    called,
    hostile,
    mistakes,
    shipped,
    watched,
)
from tests.unit.connectors.files.workbook import workbook
from tests.waiting import PATIENCE, eventually, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROWS = 90


@pytest.fixture(scope="module")
def filled(desk: Desk) -> Desk:
    """Rows of a week, hostile ones the newest, all labelled, with variants and stored."""
    desk.insert(shipped(ROWS), hours=150)
    desk.insert(hostile())
    desk.upload("text;date\nгде мой заказ;01/02/2026\n".encode(), "dates.csv")
    flow = desk.flow
    flow.wait(lambda: flow.count("logs_labeled") >= ROWS, "labelled rows")

    def settled() -> bool:
        waiting = desk.told("status")["topics"]
        return all(lag == 0 for topic in waiting.values() for lag in topic["lag"].values())

    until(settled, flow.explain, pause=2)  # each look is a command
    return desk


WINDOW: ViewportSize = {"width": 1360, "height": 900}


async def opened(chrome: Browser, desk: Desk, key: str = WRITE, **options: Any) -> Watched:
    """A page of somebody who has signed in."""
    context = await chrome.new_context(**({"locale": "ru-RU", "viewport": WINDOW} | options))
    found = await watched(context, desk.urls[0])
    await found.sign_in(key)
    return found


_kept: list[Watched] = []


@pytest_asyncio.fixture(loop_scope="session")
async def at(filled: Desk, started_browser: Browser) -> AsyncIterator[Watched]:
    """The page of the tests that ask for nothing else of it, which follow each other: to open one takes
    seconds of CPU. Whoever asks for `chrome` closes it.
    """
    if not _kept or _kept[0].page.is_closed():
        _kept[:] = [await opened(started_browser, filled)]
    _kept[0].wrong.clear()
    yield _kept[0]
    await _kept[0].page.set_viewport_size(WINDOW)


async def tile(page: Page, key: str) -> int:
    """A number of the flow's head."""
    text = await page.inner_text(f"#tile-{key}")
    return int(re.sub(r"\D", "", text) or -1)


async def test_the_numbers_agree_with_the_tables(filled: Desk, at: Watched) -> None:
    await at.show("flow")
    await at.page.wait_for_selector("tr[data-stage=store]", timeout=SECONDS)
    for key, table in (
        ("labeled_rows", "logs_labeled"),
        ("augmented_rows", "logs_augmented"),
        ("dead_rows", "dead_letters"),
    ):
        assert await tile(at.page, key) == filled.flow.count(table)
    lag = await at.page.inner_text("tr[data-stage=label] td:nth-child(3)")
    assert lag.strip() == "0"
    assert await at.page.get_by_text("Публикуются как есть.").count() == 1  # personal data
    before = filled.flow.count("logs_labeled")
    filled.insert(["новая строка для страницы", "и ещё одна новая строка"])
    await at.page.wait_for_function(
        "want => document.querySelector('#tile-labeled_rows').textContent.replace(/\\D/g, '') == want",
        arg=before + 2,
        timeout=SECONDS,
    )
    await at.show("labels")
    await at.page.wait_for_selector("main .grid .scroll table tbody tr", timeout=SECONDS)
    shown = {
        await row.locator("th").inner_text(): int(
            re.sub(r"\D", "", await row.locator("td").nth(0).inner_text())
        )
        for row in await at.page.locator("main .grid .scroll table tbody tr").all()
    }
    newest = "(SELECT max(created_at) FROM {0}.logs_labeled WHERE row_id != '{1}' AND row_id != '{2}')"
    last = filled._next - 1
    for names in ((0, 0), (last, 0), (last, last - 1)):
        # The picture is made anew every quarter of a minute: it may be of before the two rows.
        until = newest.format(filled.flow.database, *names)
        day = filled.flow.rows(
            f"SELECT toString(label), count() FROM {filled.flow.database}.logs_labeled_current "
            f"WHERE created_at > {until} - INTERVAL 1 DAY AND created_at <= {until} GROUP BY label"
        )
        if dict(day) == {name: count for name, count in shown.items() if count}:
            break
    else:
        raise AssertionError((dict(day), shown))
    assert mistakes(at) == []


async def test_a_dead_letter_is_tried_again(filled: Desk, at: Watched) -> None:
    filled.faults({"kind": "unknown_label", "match": "сломанная метка", "calls": "label"})
    filled.insert(["сломанная метка страницы"])
    await filled.poison(b"\xff\x00<script>alert(1)</script>")
    filled.flow.wait(lambda: filled.flow.count("dead_letters") >= 2, "two dead letters")
    filled.faults()
    await at.show("letters")
    line = at.page.locator("tr[data-letter]", has_text="сломанная метка страницы")
    await line.wait_for(timeout=SECONDS)
    assert await line.locator("td").nth(3).inner_text() == "invalid-answer"
    await line.locator("button[data-retry]").click()
    await at.page.wait_for_function(
        "() => [...document.querySelectorAll('tr[data-letter]')].some((one) => "
        "one.textContent.includes('сломанная метка страницы') && one.querySelector('.chip.ok'))",
        timeout=SECONDS,
    )
    found = filled.flow.rows(
        f"SELECT count() FROM {filled.flow.database}.logs_labeled WHERE text = 'сломанная метка страницы'"
    )
    assert found == [(1,)]
    audit = filled.flow.rows(
        f"SELECT who, toString(result) FROM {filled.flow.database}.audit_log WHERE action = 'letter-retry'"
    )
    assert audit == [("anna", "done")]
    assert mistakes(at) == []


async def test_a_replay_is_paused_and_resumed_and_its_version_promoted(filled: Desk, at: Watched) -> None:
    flow = filled.flow
    agents = filled.workers[1]
    agents.terminate()
    agents.wait(PATIENCE)
    begun = flow.command("replay", "--from-table", "--version", "v2", "--limit", "60", "--no-wait", "--json")
    assert begun.returncode == 0, begun.stderr
    job = json.loads(begun.stdout.strip().splitlines()[-1])["id"]
    await at.show("replays")
    line = at.page.locator(f"tr[data-job='{job}']")
    await line.locator("[data-state=working]").wait_for(timeout=SECONDS)
    await line.locator("button[data-wish=pause]").click()
    await line.locator("[data-state=paused]").wait_for(timeout=SECONDS)
    assert filled.told("replay", "show", job)["state"] == "paused"
    await line.locator("button[data-wish=resume]").click()
    await line.locator("[data-state=working]").wait_for(timeout=SECONDS)
    filled.workers[1:2] = flow.start("agents")
    await line.locator("[data-state=done]").wait_for(timeout=SECONDS)

    version = at.page.locator("tr[data-version=v2]")
    await version.wait_for(timeout=SECONDS)
    await at.page.select_option("select[name=a]", "v1")
    await at.page.select_option("select[name=b]", "v2")
    await at.page.click("form:has(select[name=a]) button")
    await at.page.locator("h2", has_text="v1 → v2").wait_for(timeout=SECONDS)
    await version.locator("button[data-verb=promote]").click()
    await at.page.click("dialog button.primary")
    await version.locator(".chip.ok").wait_for(timeout=SECONDS)
    current = flow.rows(
        f"SELECT DISTINCT toString(label_version) FROM {flow.database}.logs_labeled_current "
        "WHERE label_version != 'human' AND row_id IN "
        f"(SELECT row_id FROM {flow.database}.logs_labeled WHERE label_version = 'v2')"
    )
    assert current == [("v2",)]
    acts = flow.rows(
        f"SELECT toString(action), target FROM {flow.database}.audit_log WHERE target IN ('v2', '{job}')"
    )
    assert set(acts) == {("replay-pause", job), ("replay-resume", job), ("version-promote", "v2")}

    # With rows that people labelled, one that has none of them is refused, and forced on record.
    flow.rows(
        f"INSERT INTO {flow.database}.logs_labeled\n"
        "    (row_id, text, created_at, label, label_version, model, labeled_at)\n"
        "SELECT row_id, text, created_at, label, 'human', 'human:anna', now64(6)\n"
        f"FROM {flow.database}.logs_labeled WHERE label_version = 'v2' LIMIT 20"
    )
    flow.rows(
        f"INSERT INTO {flow.database}.label_versions (version, model, status) VALUES ('v3', 'm', 'trial')"
    )
    await at.show("audit")
    await at.show("replays")
    trial = at.page.locator("tr[data-version=v3]")
    await trial.locator("button[data-verb=promote]").click()
    await at.page.click("dialog button.primary")
    refusal = at.page.locator("dialog", has_text="none of 20 gold rows")
    await refusal.wait_for(timeout=SECONDS)
    await refusal.locator("button.primary").click()
    await trial.locator(".chip.ok").wait_for(timeout=SECONDS)
    results = flow.rows(
        f"SELECT toString(result) FROM {flow.database}.audit_log WHERE target = 'v3' ORDER BY at"
    )
    assert results == [("refused-by-gate",), ("done",)]
    assert [one for one in mistakes(at) if "409" not in one] == []


async def test_hostile_texts_are_texts_and_break_no_layout(at: Watched) -> None:
    await at.show("feed")
    await at.page.click("form[role=search] button[type=submit]")
    await at.page.get_by_text("К ленте").wait_for(timeout=SECONDS)
    await at.page.wait_for_selector("tr[data-row]", timeout=SECONDS)
    # A page may have no rows, and a next one: a search ends after a second.
    while (more := await at.page.query_selector("main .card .row button")) is not None:
        await more.click()
        await at.page.wait_for_function("button => !button.isConnected", arg=more, timeout=SECONDS)
    shown = await at.page.locator("tr[data-row] .text").all_inner_texts()
    assert any("<script" in text for text in shown)
    assert any("<img" in text for text in shown)
    assert await at.page.locator("main img, main script, main iframe, main a[href^='http']").count() == 0
    for _ in range(3):
        button = at.page.locator(".clip button[aria-expanded=false]").first
        if await button.count():
            await button.click()
    assert await wide(at.page) <= 0
    for view in ("review", "letters", "labels"):
        await at.show(view)
        await at.page.wait_for_timeout(500)
        assert await wide(at.page) <= 0, view
    await at.page.set_viewport_size({"width": 420, "height": 800})
    for view in VIEWS:
        await at.show(view)
        await at.page.wait_for_timeout(300)
        assert await wide(at.page) <= 0, view
    assert mistakes(at) == []


async def test_what_is_shown_stays_bounded(filled: Desk, at: Watched) -> None:
    await at.show("feed")
    filled.insert([f"строка потока {number}" for number in range(250)])
    await at.page.wait_for_function(
        "() => document.querySelectorAll('tr[data-row]').length >= 20", timeout=SECONDS
    )
    labeled = (
        f"SELECT count() FROM {filled.flow.database}.logs_labeled WHERE startsWith(text, 'строка потока')"
    )
    filled.flow.wait(lambda: filled.flow.rows(labeled) == [(250,)], "the rows are labelled")
    assert await at.page.locator("tr[data-row]").count() <= 100
    assert mistakes(at) == []


async def wide(page: Page) -> int:
    """By how much the page is wider than the window."""
    return int(
        await page.evaluate(
            "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_axe_finds_nothing_serious_in_any_view(filled: Desk, chrome: Browser, scheme: str) -> None:
    rules = (
        "" if scheme == "light" else ", runOnly: ['color-contrast']"
    )  # the schemes differ in colours alone
    at = await opened(chrome, filled, color_scheme=scheme)
    for view in VIEWS:
        await at.show(view)
        await at.page.wait_for_selector("main .scroll tbody tr, .choices", timeout=SECONDS)
        assert await serious_in(at.page, rules) == [], view
    assert mistakes(at) == []


def strangers(folder: Path) -> dict[str, tuple[Path, str | None]]:
    """Files of several formats with three rows, and what is asked about each; all formats are read in
    `tests/unit/connectors/files`."""
    texts = ["где мой заказ из файла", "верните деньги за файл", "не работает файл"]
    table = "text;date\n" + "".join(f"{text};0{n}/02/2026\n" for n, text in enumerate(texts, 1))
    lines = "".join(json.dumps({"query": text, "created_at": "2026-02-01"}) + "\n" for text in texts)
    sheet = [["text", "user_id"], *([text, n] for n, text in enumerate(texts))]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("table.csv", table.replace("/", ".") + "\n")
    frame = pa.table({"text": texts, "created_at": [f"2026-02-0{n}" for n in (1, 2, 3)]})
    made: dict[str, tuple[bytes, str | None]] = {
        "dates.csv": (table.encode() + b"too;many;fields\n", "dates"),
        "old.csv": (table.replace("/", ".").encode("cp1251"), None),
        "lines.jsonl": (lines.encode(), None),
        "packed.jsonl.gz": (gzip.compress(lines.encode() + b"\n"), None),
        "packed.zip": (packed.getvalue(), None),
        "sheets.xlsx": (workbook({"first": [["text"], ["не тот лист"]], "second": sheet}), "sheet"),
    }
    for name, (content, _) in made.items():
        (folder / name).write_bytes(content)
    parquet.write_table(frame, folder / "rows.parquet")
    return {name: (folder / name, about) for name, (_, about) in made.items()} | {
        "rows.parquet": (folder / "rows.parquet", None)
    }


def labeled_in(result: Path) -> list[dict[str, str]]:
    """The rows of a result that have a label."""
    with result.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["status"] == "labeled"]


async def test_files_by_keyboard(filled: Desk, chrome: Browser, tmp_path: Path) -> None:
    at = await opened(chrome, filled, locale="en-GB", accept_downloads=True)
    await at.show("files")
    for name, (path, about) in strangers(tmp_path).items():
        await at.page.set_input_files("input[name=file]", path)
        await at.page.locator("main h2", has_text=name).wait_for(timeout=SECONDS)
        if about is not None:
            # Nothing starts before the question is answered: the second choice, or the last.
            assert await at.page.locator("button[name=start]").is_disabled()
            await at.page.focus(f"select[name=answer-{about}]")
            await at.page.keyboard.press("End")
            await at.page.locator("button[name=start]:enabled").wait_for(timeout=SECONDS)
        if name == "dates.csv":
            assert await at.page.locator("tr[data-line='5']").count() == 1
            assert await wide(at.page) <= 0
            assert await serious_in(at.page, "") == []
        await at.page.focus("button[name=start]")
        await at.page.keyboard.press("Enter")
        await at.page.locator("#file-job [data-state=done]").wait_for(timeout=SECONDS)
        async with at.page.expect_download() as download:
            await at.page.focus("#file-job a")
            await at.page.keyboard.press("Enter")
        labeled = labeled_in(Path(await (await download.value).path()))
        assert len(labeled) == 3, name
        if about == "dates":  # month first, as was answered
            assert [row["ts"][:10] for row in labeled] == ["2026-01-02", "2026-02-02", "2026-03-02"]
    assert await at.page.locator("tr[data-file]").count() == len(strangers(tmp_path)) + 1
    # A file stays open in another language, with what was answered, and is told of in that language.
    await at.page.locator("tr[data-file]", has_text="dates.csv").first.locator("button").click()
    await at.page.locator("select[name=answer-dates]").press("End")
    await at.page.locator("button[name=start]:enabled").wait_for(timeout=SECONDS)
    await at.page.click("text=Русский")
    await at.page.locator("[data-question=dates]", has_text="В каком порядке день и месяц").wait_for(
        timeout=SECONDS
    )
    assert await at.page.locator("select[name=answer-dates]").input_value() == "month-day-year"
    assert await at.page.locator("button[name=start]").is_enabled()
    await at.page.locator("tr[data-line='5']", has_text="должно быть").wait_for(timeout=SECONDS)
    assert mistakes(at) == []


async def serious_in(page: Page, rules: str) -> list[Any]:
    """What axe finds; it is put into the page from outside, whose own rules let no foreign script in."""
    await page.evaluate((VENDOR / "axe.min.js").read_text("utf-8"))
    found = await page.evaluate(f"() => axe.run(document, {{ resultTypes: ['violations']{rules} }})")
    return [
        (one["id"], [node["html"][:160] for node in one["nodes"]][:3])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]


async def test_the_language_is_the_browser_s_and_can_be_chosen(filled: Desk, chrome: Browser) -> None:
    at = await opened(chrome, filled, locale="en-GB")
    assert await at.page.inner_text("h1") == "Flow"
    await at.page.click("text=Русский")
    assert await at.page.inner_text("h1") == "Поток"
    await at.page.click("text=Тёмная")
    await at.page.reload()
    await at.page.wait_for_selector("nav a", timeout=SECONDS)
    assert await at.page.inner_text("h1") == "Поток"
    assert await at.page.evaluate("() => document.documentElement.dataset.theme") == "dark"
    assert mistakes(at) == []


async def test_the_first_paint_is_told(filled: Desk, chrome: Browser) -> None:
    # Without a look at each request, which takes longer than the page.
    page = await (await chrome.new_context()).new_page()
    times = []
    for _ in range(3):
        await page.goto(filled.urls[0])
        await page.wait_for_selector("input[name=key]", timeout=SECONDS)
        times.append(
            await page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime")
        )
    print(f"first paint: {', '.join(f'{one:.0f}' for one in times)} ms")
    assert all(one > 0 for one in times)


async def test_a_viewer_looks_and_changes_nothing(filled: Desk, chrome: Browser) -> None:
    at = await opened(chrome, filled, READ)
    await at.show("replays")
    await at.page.wait_for_selector("tr[data-version]", timeout=SECONDS)
    assert await at.page.locator("button[data-verb]:enabled").count() == 0
    refused = await called(at.page, "POST", "/page/versions/promote", {"version": "v1"})
    assert (refused["status"], refused["told"]["code"]) == (403, "read-only-key")


def judged(desk: Desk) -> dict[str, tuple[str, str, float | None]]:
    """People's labels into the tables: row to the model's label, the right one, and the probability of the
    draw. Of every four rows that were drawn with 0.5 three are right, of those with 0.1 one half, of those
    that were not drawn none.
    """
    flow = desk.flow
    rows = flow.rows(
        f"SELECT DISTINCT row_id, toString(label) FROM {flow.database}.logs_labeled "
        "WHERE label_version = 'v1' AND match(row_id, '^[0-9]+$') ORDER BY toUInt64(row_id) LIMIT 40"
    )
    names = sorted({label for _, label in rows})
    found: dict[str, tuple[str, str, float | None]] = {}
    for number, (row_id, label) in enumerate(rows):
        chance = 0.5 if number < 20 else 0.1 if number < 30 else None
        wrong = number % 4 == 0 if number < 20 else number % 2 == 0 or number >= 30
        other = names[(names.index(label) + 1) % len(names)]
        found[row_id] = (label, other if wrong else label, chance)
    client = flow.clickhouse()
    client.command(  # what other tests labelled
        f"ALTER TABLE {flow.database}.logs_labeled DELETE WHERE label_version = 'human' "
        "SETTINGS mutations_sync = 2"
    )
    for row_id, (_, right, chance) in found.items():
        drawn = f"'audit' AS drawn_by, {chance} AS draw_probability" if chance else "'unsure' AS drawn_by"
        client.command(
            f"INSERT INTO {flow.database}.logs_labeled SELECT * REPLACE ('human' AS label_version, "
            f"'{right}' AS label, 'human:anna' AS model, NULL AS confidence, {drawn}, "
            "now64(6) AS labeled_at) "
            f"FROM (SELECT * FROM {flow.database}.logs_labeled "
            f"WHERE label_version = 'v1' AND row_id = '{row_id}' LIMIT 1)"
        )
    client.close()
    return found


async def test_the_quality_shown_is_that_of_evaluate(filled: Desk, chrome: Browser) -> None:
    gold = judged(filled)
    drawn = [(label == right, 1 / chance) for label, right, chance in gold.values() if chance]
    by_hand = sum(weight for right, weight in drawn if right) / sum(weight for _, weight in drawn)
    told = filled.told("evaluate", "--version", "v1", "--by", "week")
    assert (told["gold"], told["drawn"], told["biased"]) == (40, 30, False)
    assert told["accuracy"] == pytest.approx(by_hand)

    at = await opened(chrome, filled, locale="en-GB")
    asked: list[str] = []
    at.page.on("request", lambda one: asked.append(one.url) if "/quality" in one.url else None)
    await at.show("quality")
    await at.page.wait_for_selector("[data-quality-version=v1]", timeout=SECONDS)
    beside = ("/assets/", "/quality/drift")
    assert len([one for one in asked if not any(part in one for part in beside)]) == 1
    await at.page.wait_for_selector("[data-drift]", timeout=SECONDS)
    if await at.page.input_value("select[name=version]") != "v1":
        await at.page.select_option("select[name=version]", "v1")
    await at.page.wait_for_selector("dl[data-version=v1]", timeout=SECONDS)
    shown = await at.page.locator("#quality-accuracy").get_attribute("data-value")
    assert float(shown or "nan") == told["accuracy"]
    value, low, high = (f"{told[name]:.3f}" for name in ("accuracy", "accuracy_low", "accuracy_high"))
    assert (await at.page.inner_text("#quality-accuracy")).split() == [value, f"{low}–{high}"]
    assert (await at.page.inner_text("#quality-gold")).split()[:2] == ["40", "30"]
    for group in told["groups"]:
        line = await at.page.locator(f"tr[data-week='{group['name']}'] td").all_text_contents()
        accuracy = "–" if group["accuracy"] is None else f"{group['accuracy']:.3f}"
        assert line[:3] == [str(group["gold"]), str(group["drawn"]), accuracy]
    ours = at.page.locator("[data-quality-version=v1] td")
    assert await ours.nth(1).inner_text() == value

    # All of it by keyboard: the threshold, the order of the labels, a confusion and its rows.
    await at.page.focus("#risk-threshold")
    await at.page.keyboard.press("Home")
    first = told["coverage"][0]
    words = await at.page.inner_text("#risk-told")
    assert f"{first['threshold']:.3f}" in words
    assert f"at least {first['accuracy_low']:.3f}" in words
    await at.page.focus("button[data-sort=recall]")
    await at.page.keyboard.press("Enter")
    order = [await one.get_attribute("data-label") for one in await at.page.locator("tr[data-label]").all()]
    recall = {one["label"]: one["recall"] for one in told["labels"]}
    known = [recall[name or ""] for name in order if recall[name or ""] is not None]
    assert known == sorted(known, reverse=True)
    await at.page.focus("button.cell[tabindex='0']")
    moved = "document.activeElement.dataset"
    cells = set()
    for key in ["ArrowRight", "ArrowDown"] * 7:
        cells.add(tuple(await at.page.evaluate(f"() => [{moved}.gold, {moved}.given]")))
        await at.page.keyboard.press(key)
    assert len(cells) > 1
    right, given = sorted((right, label) for label, right, _ in gold.values() if label != right)[0]
    await at.page.focus(f"button.cell[data-gold='{right}'][data-given='{given}']")
    await at.page.keyboard.press("Enter")
    await at.page.wait_for_selector("tr[data-gold-row]", timeout=SECONDS)
    listed = {
        await one.get_attribute("data-gold-row") for one in await at.page.locator("tr[data-gold-row]").all()
    }
    assert listed == {name for name, one in gold.items() if one[:2] == (given, right)}
    await corrected(at, filled, listed.pop() or "", given)
    assert await serious_in(at.page, "") == []
    assert await wide(at.page) <= 0
    await at.page.set_viewport_size({"width": 420, "height": 800})
    assert await wide(at.page) <= 0
    assert mistakes(at) == []


async def corrected(at: Watched, desk: Desk, row_id: str, label: str) -> None:
    """By keyboard, a listed row gets another label, which is stored as found by search."""
    await at.page.focus(f"[data-gold-row='{row_id}'] button.link")
    await at.page.keyboard.press("Enter")
    await at.page.locator("dialog button", has_text="Correct the label").focus()
    await at.page.keyboard.press("Enter")
    choices = at.page.locator("dialog select[name=right] option")
    await choices.nth(1).wait_for(state="attached", timeout=SECONDS)
    await at.page.select_option("dialog select[name=right]", label)
    assert await serious_in(at.page, "") == []
    await at.page.keyboard.press("Tab")
    await at.page.keyboard.press("Enter")
    await at.page.locator("dialog [role=status]", has_text="Saved").wait_for(timeout=SECONDS)
    stored = (
        f"SELECT row_id, toString(label), toString(model), draw_probability FROM {desk.flow.database}."
        "logs_labeled WHERE drawn_by = 'search'"
    )
    await eventually(
        lambda: desk.flow.rows(stored) == [(row_id, label, "human:anna", None)], "the correction"
    )
    await at.page.keyboard.press("Escape")
    await at.page.wait_for_selector("dialog", state="detached", timeout=SECONDS)
