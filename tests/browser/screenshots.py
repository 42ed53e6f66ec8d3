"""`python -m tests.browser.screenshots`: every section of the page, light and dark, Russian and English.

Starts a stack of its own, fills it with the shipped queries, and writes `docs/guide/screenshots/*.png`.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path

import yaml

from connectors.local.stack import LocalStack
from tests.browser.desk import SECONDS, VIEWS, WRITE, Desk, browser, shipped, watched
from tests.integration.pipeline import ROOT, Pipeline
from tests.stack import shared_jars

PLACE = ROOT / "docs" / "guide" / "screenshots"
LANGUAGES = {"ru": "ru-RU", "en": "en-GB"}
_ROWS = 1500
_LIVE_SECONDS, _CHART_SECONDS = 600, 90


async def fill(desk: Desk) -> None:
    """Rows of eight days, two dead letters, labels of people, and a replay."""
    flow = desk.flow
    desk.faults({"kind": "unknown_label", "match": "номер договора 0000", "calls": "label"})
    desk.insert(shipped(_ROWS), hours=190)
    desk.insert(["проверьте номер договора 0000"])
    await desk.poison(
        b'{"row_id": "77", "text": "\xd0\xb3\xd0\xb4\xd0\xb5 \xd0\xb7\xd0\xb0\xd0\xba\xd0\xb0\xd0\xb7"'
    )
    flow.wait(lambda: flow.count("logs_labeled") >= _ROWS * 0.9, "labelled rows")
    flow.wait(lambda: flow.count("dead_letters") >= 2, "dead letters")
    desk.faults()
    desk.upload(
        "text;date\nгде мой заказ;01/02/2026\nверните деньги;02/02/2026\n".encode("cp1251"), "january.csv"
    )
    judge(flow)
    # The second version knows no deliveries.
    whole = yaml.safe_load((ROOT / "taxonomy.yaml").read_text("utf-8"))
    whole["domains"] = [one for one in whole["domains"] if one["name"] != "delivery"]
    less = flow.folder / "less.yaml"
    less.write_text(yaml.safe_dump(whole, allow_unicode=True), "utf-8")
    words = ("--version", "v2", "--taxonomy", str(less), "--limit", "600", "--no-wait")
    done = flow.command("replay", "--from-table", *words)
    assert done.returncode == 0, done.stderr


def judge(flow: Pipeline) -> None:
    """Labels of people: of every third row, drawn at random; the less sure the model is, the more differ."""
    rows = flow.rows(
        f"SELECT row_id, toString(label), alternatives[1].1, ifNull(confidence, 0) FROM "
        f"{flow.database}.logs_labeled WHERE label_version = 'v1' AND match(row_id, '^[0-9]+$') "
        "ORDER BY toUInt64(row_id)"
    )
    chance = random.Random(1)
    lines = [
        f"{row_id},{other if other and chance.random() > confidence else label},0.3"
        for row_id, label, other, confidence in rows[::3]
    ]
    gold = flow.folder / "gold.csv"
    gold.write_text("\n".join(["row_id,label,draw_probability", *lines, ""]), "utf-8")
    done = flow.command("gold", "import", str(gold), "--by", "boris")
    assert done.returncode == 0, done.stderr


async def live(desk: Desk) -> None:
    """New rows, some a second."""
    for number in range(_LIVE_SECONDS):
        await asyncio.to_thread(desk.insert, shipped(_ROWS + 12 * number + 12)[_ROWS + 12 * number :])
        await asyncio.sleep(1.0)


async def take(desk: Desk) -> None:
    """All pictures."""
    PLACE.mkdir(parents=True, exist_ok=True)
    async with browser() as chrome:
        # Until the charts have something to show.
        first = await watched(await chrome.new_context(), desk.urls[0])
        await first.sign_in(WRITE)
        await asyncio.sleep(_CHART_SECONDS)
        for language, locale in LANGUAGES.items():
            for scheme in ("light", "dark"):
                context = await chrome.new_context(
                    locale=locale, color_scheme=scheme, viewport={"width": 1280, "height": 800}
                )
                at = await watched(context, desk.urls[0])
                await at.sign_in(WRITE)
                for view in VIEWS:
                    await at.show(view)
                    # Tables of numbers may be folded.
                    shown = "main .scroll tbody tr:visible, .choices"
                    await at.page.wait_for_selector(shown, timeout=SECONDS)
                    if view == "review":
                        for key in "121":
                            await at.page.keyboard.press(key)
                            await at.page.wait_for_timeout(300)
                    if view == "files":
                        await at.page.click("tr[data-file] button", timeout=SECONDS)
                        await at.page.locator("select[name=answer-dates]").wait_for(timeout=SECONDS)
                    if view == "replays":
                        await at.page.click("form:has(select[name=a]) button", timeout=SECONDS)
                        await at.page.locator("h2", has_text="v1 → v2").wait_for(timeout=SECONDS)
                    await at.page.wait_for_timeout(2500)
                    await at.page.screenshot(path=PLACE / f"{view}-{scheme}-{language}.png")
                await context.close()


async def main() -> None:
    """Start, fill, take, stop."""
    with tempfile.TemporaryDirectory() as folder:
        stack = LocalStack(Path(folder) / "stack", jars_dir=shared_jars())
        try:
            running = stack.up(llm=True, taxonomy=ROOT / "taxonomy.yaml")
            flow = Pipeline(running, "esk", Path(folder), API_KEYS=f"anna:write:{WRITE}", LABEL_VERSION="v1")
            desk = Desk(flow)
            try:
                desk.begin()
                await fill(desk)
                feeding = asyncio.create_task(live(desk))
                await asyncio.sleep(20)
                await take(desk)
                feeding.cancel()
            finally:
                flow.stop()
        finally:
            stack.down()


if __name__ == "__main__":
    asyncio.run(main())
