"""The proxy labels what it is sure of, by the newest certificate, and the model everything else."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from agents.label import Labeler, answer_key, cache_entry
from agents.proxy.audited import is_audited
from agents.proxy.classifier import Proxy
from agents.proxy.fit import fit
from agents.routing import Router
from connectors.llm.cache import Shared
from streams.core.calibration import VersionCalibration
from streams.core.cascade import CascadeState, ProxyRef
from streams.core.codec import encode, headers_of
from streams.core.messages import Labeled
from streams.core.outcomes import Done
from tests.unit.agents.fakes import FakeModel, row, taxonomy
from tests.unit.agents.proxy.test_classifier import WORDS, queries

TAUGHT = queries(200)
TEXTS, LABELS = TAUGHT[0][:60], TAUGHT[1][:60]
SCALE = VersionCalibration(
    version="v1", generation=1, method="temperature", temperature=2.0, rows=9, log_loss=1, log_loss_raw=2
)


@pytest.fixture(scope="module")
def packed() -> bytes:
    return fit(*TAUGHT).pack()


class Cascade:
    """A label step with a model that says `other` to everything, and what the versions topic says."""

    def __init__(self, packed: bytes, *, on: bool = True, **changes: Any) -> None:
        given: dict[str, Any] = {"generation": 3, "threshold": 0.5, "audit_rate": 0.0, "state": "certified"}
        given["proxy"] = ProxyRef.of(3, packed)
        self.state: CascadeState | None = CascadeState(version="v1", **(given | changes))
        self.packed: bytes | None = packed
        self.model = FakeModel(lambda asked: '{"label": "other"}')
        self.answers = Shared()
        self.counts = Counter[str]()
        router = Router(
            lambda: self.state,
            lambda: None if self.packed is None else (3, self.packed),
            on=on,
            counts=self.counts,
        )
        names = (*WORDS, "other")
        self.step = Labeler(
            self.model, "m", "{domains}", taxonomy(*names), "v1", self.answers,
            calibration=lambda: SCALE, router=router,
        )  # fmt: skip

    async def label(self, *texts: str) -> list[Labeled]:
        outcomes = await asyncio.gather(*(self.step.label(row(text)) for text in texts))
        assert all(isinstance(outcome, Done) for outcome in outcomes)
        return [outcome.message for outcome in outcomes if isinstance(outcome, Done)]


async def test_the_proxy_labels_what_it_is_sure_of(packed: bytes) -> None:
    cascade = Cascade(packed)
    messages = await cascade.label(*TEXTS, "where is my refund")
    assert [one.label for one in messages] == [*LABELS, "other"]
    assert (messages[0].decided_by, messages[0].proxy_generation) == ("proxy", 3)
    assert (messages[-1].decided_by, messages[-1].proxy_generation) == ("llm", None)
    # Its score is no probability that the model reported, and is not scaled as one.
    (said,) = Proxy.unpack(packed).decide(TEXTS[:1])
    assert (messages[0].confidence, messages[0].confidence_raw, messages[0].calibration) == (
        *(said.score, None, None),
    )
    assert (messages[0].model, messages[0].label_version, messages[0].cached) == ("m", "v1", False)
    assert len(cascade.model.asked) == 1
    assert cascade.counts == {"proxy": 60, "novel": 1}


async def test_texts_that_wait_at_once_are_decided_together(
    packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    decide = Proxy.decide
    monkeypatch.setattr(Proxy, "decide", lambda self, texts: passes.append(len(texts)) or decide(self, texts))
    await Cascade(packed).label(*TEXTS, *TEXTS)
    assert passes == [64, 56]


@pytest.mark.parametrize(
    ("changes", "decision"),
    [
        ({"threshold": 1.01}, "unsure"),
        ({"vetoed": tuple(WORDS)}, "vetoed"),
        ({"audit_rate": 1.0}, "audit"),
        ({"state": "revoked"}, "none"),
        ({"state": "learning"}, "none"),
        ({"proxy": None}, "none"),
    ],
)
async def test_everything_else_is_the_models(packed: bytes, changes: dict[str, Any], decision: str) -> None:
    cascade = Cascade(packed, **changes)
    messages = await cascade.label(*TEXTS)
    assert {(one.label, one.decided_by) for one in messages} == {("other", "llm")}
    assert cascade.counts == {decision: 60}


async def test_a_share_of_the_texts_is_audited_whoever_asks(packed: bytes) -> None:
    messages = await Cascade(packed, audit_rate=0.4).label(*TEXTS)
    audited = [one.text for one in messages if one.decided_by == "llm"]
    assert audited == [text for text in TEXTS if is_audited("v1", text, 0.4)]
    assert 10 < len(audited) < 40


async def test_in_shadow_it_counts_and_changes_no_byte(packed: bytes) -> None:
    cascade = Cascade(packed, on=False)
    messages = await cascade.label(*TEXTS, TEXTS[0])
    off = Labeler(
        FakeModel(lambda asked: '{"label": "other"}'), "m", "{domains}", taxonomy(*WORDS, "other"), "v1",
        Shared(), calibration=lambda: SCALE,
    )  # fmt: skip
    plain = await asyncio.gather(*(off.label(row(text)) for text in (*TEXTS, TEXTS[0])))
    for one, other in zip(messages, plain, strict=True):
        assert isinstance(other, Done)
        same = {"labeled_at": one.labeled_at}
        expected = other.message.model_copy(update=same)
        assert encode(one) == encode(expected)
        assert headers_of(one) == headers_of(expected)
    assert {one.decided_by for one in messages} == {"llm"}
    assert cascade.counts["proxy"] >= 60
    assert len(cascade.model.asked) == 60


async def test_the_models_answers_come_first_and_the_proxys_are_never_among_them(packed: bytes) -> None:
    cascade = Cascade(packed)
    text = TEXTS[0]
    (by_proxy,) = await cascade.label(text)
    assert cascade.answers.size == 0
    assert cache_entry(by_proxy) is None
    cascade.state = None
    (by_model,) = await cascade.label(text)
    answer = cache_entry(by_model)
    assert answer is not None
    assert answer[0] == answer_key("v1", text)
    cascade = Cascade(packed)
    cascade.answers.warm(*answer)
    (again,) = await cascade.label(text)
    assert (again.label, again.decided_by, again.cached) == ("other", "llm", True)
    assert cascade.counts == {"cache": 1}


async def test_only_the_newest_state_counts(packed: bytes) -> None:
    cascade = Cascade(packed)
    assert cascade.state is not None
    certified = cascade.state
    assert [one.decided_by for one in await cascade.label(TEXTS[0])] == ["proxy"]
    cascade.state = certified.model_copy(update={"state": "revoked"})
    assert [one.decided_by for one in await cascade.label(TEXTS[1])] == ["llm"]
    other = fit(*(some[:150] for some in TAUGHT)).pack()
    cascade.state = certified.model_copy(update={"generation": 4, "proxy": ProxyRef.of(4, other)})
    cascade.packed = None  # its parts have not all come
    assert [one.decided_by for one in await cascade.label(TEXTS[2])] == ["llm"]
    cascade.packed = other
    assert [one.proxy_generation for one in await cascade.label(TEXTS[3])] == [4]


async def test_a_proxy_that_cannot_be_used_holds_up_nothing(
    packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    cascade = Cascade(packed)
    cascade.packed = packed[:-5]
    assert {one.decided_by for one in await cascade.label(*TEXTS)} == {"llm"}

    def fails(self: Proxy, texts: list[str]) -> None:
        raise ZeroDivisionError

    cascade = Cascade(packed)
    monkeypatch.setattr(Proxy, "decide", fails)
    assert {one.decided_by for one in await cascade.label(*TEXTS)} == {"llm"}
    assert cascade.counts == {"none": 60}


async def test_who_is_cancelled_leaves_the_others_their_decision(packed: bytes) -> None:
    cascade = Cascade(packed)
    tasks = [asyncio.create_task(cascade.step.label(row(text))) for text in TEXTS[:3]]
    await asyncio.sleep(0)
    tasks[1].cancel()
    done = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert [isinstance(one, Done) for one in done] == [True, False, True]


async def test_a_label_that_the_version_does_not_have_is_the_models(packed: bytes) -> None:
    cascade = Cascade(packed)
    step = Labeler(
        cascade.model, "m", "{domains}", taxonomy("payment", "other"), "v1", cascade.answers,
        router=cascade.step._router,
    )  # fmt: skip
    found = {text: await step.label(row(text)) for text in TEXTS}
    given = {text: one.message.label for text, one in found.items() if isinstance(one, Done)}
    assert given == {
        text: label if label == "payment" else "other" for text, label in zip(TEXTS, LABELS, strict=True)
    }
