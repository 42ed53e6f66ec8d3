"""How large a batch a topic takes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from connectors.kafka.sending import batch_sizes
from connectors.kafka.sending.batch_sizes import BATCH_BYTES, BatchSizes

CLIENT = SimpleNamespace(cluster=SimpleNamespace(brokers=lambda: [1]))


@pytest.mark.parametrize(("error_code", "asked"), [(3, 2), (29, 1)])
async def test_a_topic_that_is_unknown_yet_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, error_code: int, asked: int
) -> None:
    """One that was made just now; not one that may not be described."""
    answers = [(0, "", 2, "t", [("max.message.bytes", "20000")]), (error_code, "", 2, "t", [])]
    count = len(answers)

    async def send(*_: Any) -> Any:
        return SimpleNamespace(resources=[answers.pop()])

    monkeypatch.setattr(batch_sizes, "send_to_any_broker", send)
    sizes = BatchSizes()
    for _ in range(3):
        await sizes.learn(CLIENT, "t")
    assert count - len(answers) == asked
    assert sizes.batch("t") == (20_000 if asked == 2 else BATCH_BYTES)
