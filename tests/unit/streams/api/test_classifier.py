"""Labels on demand: which of the three is to blame is told to the one who waits, instead of a hang."""

from __future__ import annotations

from typing import Any

import pytest

from streams.api import classifier
from streams.api.classifier import LabelOnDemand
from streams.core.calibration import VersionCalibration
from streams.core.environment import load
from streams.core.errors import AccessError, ConfigurationError, RetryableError
from streams.core.settings import Settings
from tests.unit.connectors.llm.fakes import chat, serving, status, token

CHECKED = '{"label": "delivery"}'


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.llm.client._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("connectors.llm.client._LONGEST_PAUSE", 0.05)


def settings_of(url: str) -> Settings:
    return load({"LLM_LABELER_API_BASE": url, "LLM_LABELER_MODE": "json", "LLM_LABELER_MODEL": "m"}, None)


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
    asked: list[str] = []

    def calibration_of(version: str) -> VersionCalibration:
        asked.append(version)
        return half

    async with serving(lambda *_: sure) as there:
        labels = LabelOnDemand(settings_of(there.url), calibration_of)
        try:
            (found,) = await labels.classify(["хороший вопрос"])
        finally:
            await labels.close()
    assert found.labeled is not None
    assert found.labeled.confidence_raw == pytest.approx(0.9, abs=0.01)
    assert (found.labeled.confidence, found.labeled.calibration) == (0.5, 3)
    assert set(asked) == {found.labeled.label_version}


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
