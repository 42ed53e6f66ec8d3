"""Labels on demand: which of the three is to blame is told to the one who waits, instead of a hang."""

from __future__ import annotations

from typing import Any

import pytest

from streams.api import classifier
from streams.api.classifier import LabelOnDemand
from streams.core.calibration import VersionCalibration
from streams.core.environment import load
from streams.core.errors import AccessError, ConfigurationError, RetryableError
from streams.core.label_version import LabelSpec
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.versions.topic import KnownVersions
from tests.unit.connectors.llm.fakes import chat, serving, status, token
from tests.unit.streams.privacy.fakes import SECRET, UNMASKABLE, make_door

CHECKED = '{"label": "delivery"}'


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.llm.client._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("connectors.llm.client._LONGEST_PAUSE", 0.05)


def settings_of(url: str, **changed: str) -> Settings:
    base = {"LLM_LABELER_API_BASE": url, "LLM_LABELER_MODE": "json", "LLM_LABELER_MODEL": "m"}
    return load({**base, **changed}, None)


def received(message: Outgoing) -> Record:
    return Record(message.topic, 0, 0, 0, message.key, message.value, tuple(message.headers))


def on_demand(url: str) -> LabelOnDemand:
    return LabelOnDemand(settings_of(url))


async def test_the_newest_calibration_of_the_version_is_applied() -> None:
    half = VersionCalibration(
        version="v1",
        generation=3,
        method="isotonic",
        points=((0.0, 0.5), (1.0, 0.5)),
        rows=1,
        log_loss=0,
        log_loss_raw=1,
    )
    sure = chat(CHECKED, logprobs={"content": [token('{"label": "'), token("delivery", 0.9), token('"}')]})
    known = KnownVersions()
    known.learn(received(half.message(Topics("esk"))))
    async with serving(lambda *_: sure) as there:
        labels = LabelOnDemand(settings_of(there.url, LABEL_VERSION="v1"), known)
        try:
            (found,) = await labels.classify(["хороший вопрос"])
            # It is the calibration of another prompt, as the topic tells now.
            other = LabelSpec(version="v1", model="m", mode="json", prompts={}, taxonomy={})
            known.learn(received(other.message(Topics("esk"))))
            (renamed,) = await labels.classify(["хороший вопрос"])
        finally:
            await labels.close()
    assert found.labeled is not None
    assert found.labeled.confidence_raw == pytest.approx(0.9, abs=0.01)
    assert (found.labeled.confidence, found.labeled.calibration) == (0.5, 3)
    assert renamed.labeled is not None
    assert (found.labeled.label_version, renamed.labeled.label_version[:3]) == ("v1", "v1.")
    assert (renamed.labeled.confidence, renamed.labeled.calibration) == (found.labeled.confidence_raw, None)


def text_of(body: dict[str, Any]) -> str:
    return str(body["messages"][-1]["content"])


async def test_a_forbidden_text_has_its_reason_and_the_others_their_labels() -> None:
    def script(body: dict[str, Any], _: Any) -> Any:
        return status(403, "blocked") if "плохой" in text_of(body) else chat(CHECKED)

    async with serving(script) as there:
        labels = on_demand(there.url)
        try:
            found = await labels.classify(["плохой вопрос", "хороший вопрос"])
        finally:
            await labels.close()
    assert [one.error for one in found] == ["refused-by-model", None]
    assert found[1].labeled is not None


@pytest.mark.parametrize(
    ("code", "kind"), [(401, AccessError), (400, ConfigurationError), (500, RetryableError)]
)
async def test_an_endpoint_that_fails_for_all_is_told_apart(
    code: int, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifier, "_PATIENCE_SECONDS", 3.0)
    async with serving(lambda *_: status(code, "nope")) as there:
        labels = on_demand(there.url)
        try:
            with pytest.raises(kind, match="nope"):
                await labels.classify(["первый вопрос", "второй вопрос", "третий вопрос"])
            asked = len(there.asked)
            with pytest.raises(kind):
                await labels.classify(["ещё вопрос"])  # at once, from what is known
            assert len(there.asked) <= asked + 1  # a probe may have come between
        finally:
            await labels.close()


async def test_a_text_is_masked_before_anything_else_and_without_that_nothing_is_asked() -> None:
    async with serving(lambda *_: chat(CHECKED)) as there:
        settings = settings_of(there.url, PRIVACY="mask", PRIVACY_SECRET=SECRET)
        with pytest.raises(ConfigurationError):
            LabelOnDemand(settings)
        labels = LabelOnDemand(settings, door=make_door())
        try:
            found, failed = await labels.classify(["мой +7 916 123-45-67, где заказ", f"вот {UNMASKABLE}"])
        finally:
            await labels.close()
    assert found.text == "мой [ТЕЛЕФОН], где заказ"
    assert found.labeled is not None
    assert (failed.text, failed.error) == ("", "cannot-mask")
    (asked,) = there.asked
    assert "[ТЕЛЕФОН]" in text_of(asked)
    assert "заполнители" in asked["messages"][0]["content"]
