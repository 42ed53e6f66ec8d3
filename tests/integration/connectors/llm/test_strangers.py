"""A stranger's model server that fails in the ways of gateways and models: nobody pays for others' faults."""

from __future__ import annotations

import pytest

from connectors.llm import client
from tests.faults.strangers import FORBIDDEN, play


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(client, "_LONGEST_PAUSE", 0.3)


@pytest.mark.parametrize("manner", ["forbidden", "aborted", "errors", "capitals"])
async def test_forbidden_texts_are_given_up_and_no_other(manner: str) -> None:
    outcome = await play(manner, rows=400, seconds=0.05, seed=1)
    assert outcome.faults == []
    assert len(outcome.letters) == FORBIDDEN
    assert outcome.labeled == 400 - FORBIDDEN
    for letter in outcome.letters.values():
        assert letter["reason"] in ("refused-by-model", "too-long-for-model", "invalid-answer", "gave-up")
        assert int(letter["attempts"]) >= 3, letter
    said = [letter["error"] for letter in outcome.letters.values()]
    assert sum("blocked by policy" in error for error in said) >= 5  # the answer's body is kept
    assert not [entry for entry in outcome.logs if "away" in entry["event"]]


async def test_an_endpoint_that_refuses_everything_is_waited_for() -> None:
    outcome = await play("refused", rows=200, seconds=0.05, away_seconds=4.0, seed=1)
    assert outcome.faults == []
    assert len(outcome.letters) == FORBIDDEN
    said = [entry for entry in outcome.logs if entry["event"].startswith("the endpoint refuses every")]
    assert [entry["setting"] for entry in said] == ["LLM_LABELER_API_KEY"] * 2
    assert "Budget has been exceeded" in said[0]["reason"]
    assert "HTTP 401" in said[1]["reason"]
    assert [entry["event"] for entry in outcome.logs].count("the endpoint is back") == 1
