"""Variants of drawn rows are labelled as their row was; those with another label are rejected."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from agents.augment import Augmenter
from agents.label import answer_key
from agents.verify import Verifier
from connectors.llm.cache import Beside, Shared
from streams.core.context import REPLAY
from streams.core.label_version import HUMAN
from streams.core.messages import Augmented, Labeled, Row
from streams.core.outcomes import Done, Outcome, Reject, Retry
from tests.unit.agents.fakes import NOW, FakeModel, NoMemory, labeled

VARIANTS = ["когда привезут мой заказ", "верните деньги за заказ"]
LABELS = {VARIANTS[0]: "delivery", VARIANTS[1]: "refund"}

Step = Callable[[Row], Awaitable[Outcome[Labeled]]]


def says(label: str, message: Row, version: str = "v", *, cached: bool = False) -> Done[Labeled]:
    known = {name: getattr(message, name) for name in Row.model_fields}
    return Done(
        Labeled(**known, label=label, label_version=version, model="m", labeled_at=NOW, cached=cached)
    )


async def right(message: Row) -> Outcome[Labeled]:
    return says(LABELS[message.text], message)


def verifier(step: Step = right, *, seconds: float = 60.0, drawn: bool = True) -> Verifier:
    return Verifier(lambda version: step, "live", lambda row: drawn, room=lambda: 2, wait_seconds=seconds)


async def augmented(one: Verifier, row: Labeled | None = None) -> Augmented:
    model = FakeModel(lambda asked: json.dumps({"variants": VARIANTS}))
    outcome = await Augmenter(model, 2, NoMemory(), verifier=one).augment(row or labeled())
    assert isinstance(outcome, Done)
    return outcome.message


async def test_a_variant_with_another_label_is_rejected() -> None:
    one = verifier()
    message = await augmented(one)
    assert message.variants == [VARIANTS[0]]
    assert [(bad.text, bad.reason) for bad in message.rejected] == [(VARIANTS[1], "label-changed")]
    assert message.verify_calls == 2
    assert one.counts == {
        "rows:verified": 1,
        "variants:delivery:kept": 1,
        "variants:delivery:changed": 1,
        "answers:call": 2,
    }


async def test_rows_that_are_not_drawn_cost_nothing() -> None:
    async def never(message: Row) -> Outcome[Labeled]:
        raise AssertionError(message.text)

    message = await augmented(verifier(never, drawn=False))
    assert (message.variants, message.verify_calls) == (VARIANTS, None)


async def test_variants_are_asked_for_as_replays_under_the_version_of_their_row() -> None:
    asked: list[tuple[str, bool]] = []

    def label_as(version: str) -> Step:
        async def step(message: Row) -> Outcome[Labeled]:
            asked.append((version, REPLAY.get()))
            return await right(message)

        return step

    await augmented(Verifier(label_as, "live", lambda row: True, room=lambda: 2))
    assert asked == [("v", True)] * 2
    assert not REPLAY.get()


@pytest.mark.parametrize(
    ("version", "update"),
    [("live", {"label_version": HUMAN}), ("v", {"decided_by": "proxy", "proxy_generation": 1})],
)
async def test_the_model_is_compared_with_itself_where_somebody_else_labelled_the_row(
    version: str, update: dict[str, object]
) -> None:
    """The model labels the row itself otherwise: that is no fault of its variants."""
    texts: list[str] = []

    def label_as(asked: str) -> Step:
        async def step(message: Row) -> Outcome[Labeled]:
            texts.append(message.text)
            return says("tariff" if message.text in ("где мой заказ", VARIANTS[0]) else "refund", message)

        return step if asked == version else right

    row = labeled().model_copy(update=update)
    message = await augmented(Verifier(label_as, "live", lambda row: True, room=lambda: 2), row)
    assert (message.label, message.variants) == ("delivery", [VARIANTS[0]])
    assert sorted(texts) == sorted([*VARIANTS, "где мой заказ"])


async def test_an_answer_that_takes_too_long_leaves_the_variants_unverified() -> None:
    one = verifier(lambda message: asyncio.sleep(3600, right), seconds=0.01)  # type: ignore[arg-type]
    message = await augmented(one)
    assert (message.variants, message.verify_calls) == (VARIANTS, None)
    assert one.counts == {"rows:late": 1}


async def test_an_endpoint_that_is_away_is_tried_again() -> None:
    waits = [Retry(0.0, "away")]

    async def away_at_first(message: Row) -> Outcome[Labeled]:
        return waits.pop() if waits else await right(message)

    assert (await augmented(verifier(away_at_first))).variants == [VARIANTS[0]]
    assert not waits


async def test_a_variant_without_any_label_leaves_all_unverified() -> None:
    async def refuses(message: Row) -> Outcome[Labeled]:
        return Reject("refused") if message.text == VARIANTS[0] else await right(message)

    one = verifier(refuses)
    message = await augmented(one)
    assert (message.variants, message.verify_calls) == (VARIANTS, None)
    assert one.counts["rows:unanswered"] == 1


async def test_a_live_row_does_not_wait_for_the_call_of_a_variant() -> None:
    answers = Shared()
    beside = Beside(answers)
    gate = asyncio.Event()

    async def slow() -> bytes:
        await gate.wait()
        return b"slow"

    async def fast() -> bytes:
        return b"fast"

    key = answer_key("v", "где мой заказ")
    variants = [asyncio.create_task(beside.get(key, slow)) for _ in range(2)]
    await asyncio.sleep(0)
    assert await answers.get(key, fast) == (b"fast", False)
    gate.set()
    assert await asyncio.gather(*variants) == [(b"slow", False), (b"slow", True)]
    assert await answers.get(key, slow) == (b"fast", True)


@pytest.mark.parametrize("known_from", ["row", "variant"])
async def test_rows_and_variants_share_answers(known_from: str) -> None:
    answers = Shared()
    beside = Beside(answers)

    async def ask() -> bytes:
        return b"answer"

    async def never() -> bytes:
        raise AssertionError

    first, second = (answers, beside) if known_from == "row" else (beside, answers)
    assert await first.get(b"key", ask) == (b"answer", False)
    assert await second.get(b"key", never) == (b"answer", True)


async def test_a_row_of_the_proxy_is_labelled_by_the_model_with_its_variants() -> None:
    asked: list[str] = []

    async def step(message: Row) -> Outcome[Labeled]:
        asked.append(message.text)
        return says("refund", message)

    row = labeled().model_copy(update={"decided_by": "proxy", "proxy_generation": 1})
    message = await augmented(verifier(step), row)
    assert message.variants == VARIANTS
    assert sorted(asked) == sorted([*VARIANTS, row.text])
