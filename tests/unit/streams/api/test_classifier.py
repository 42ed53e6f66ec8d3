"""Labels on demand: which of the three is to blame is told to the one who waits, instead of a hang."""

from __future__ import annotations

from typing import Any

import pytest

from streams.api import classifier
from streams.api.classifier import LabelOnDemand
from streams.core.environment import load
from streams.core.errors import AccessError, ConfigurationError, RetryableError
from tests.unit.connectors.llm.fakes import chat, serving, status

CHECKED = '{"label": "delivery"}'


@pytest.fixture(autouse=True)
def _short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.llm.client._FIRST_PAUSE", 0.01)
    monkeypatch.setattr("connectors.llm.client._LONGEST_PAUSE", 0.05)


def on_demand(url: str) -> LabelOnDemand:
    settings = {"LLM_LABELER_API_BASE": url, "LLM_LABELER_MODE": "json", "LLM_LABELER_MODEL": "m"}
    return LabelOnDemand(load(settings, None))


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
