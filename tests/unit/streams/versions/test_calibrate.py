"""A calibration as it is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from agents.proxy.audited import is_audited
from connectors.clickhouse.queries.given_labels import GivenLabel
from streams.core.calibration import ConfidenceScale, VersionCalibration
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.ports.lookups import Place
from streams.quality.calibration import Fit
from streams.versions import calibrate
from streams.versions.topic import KnownVersions


def fitted(temperature: float) -> Fit:
    return Fit(ConfidenceScale(method="temperature", temperature=temperature), 300, 0.4, 0.9)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """The versions topic."""
    log: list[Outgoing] = []

    async def send(_: Any, messages: Sequence[Outgoing]) -> None:
        log.extend(messages)

    async def read(_: Settings) -> KnownVersions:
        known = KnownVersions()
        for offset, one in enumerate(log):
            known.learn(Record(one.topic, 0, offset, 0, one.key, one.value))
        return known

    monkeypatch.setattr(calibrate, "send_each", send)
    monkeypatch.setattr(calibrate, "read_versions", read)
    return log


@pytest.fixture
def publish(log: list[Outgoing]) -> Callable[[float], Any]:
    """Publishes a fit as one does that knows of no generation yet."""
    settings = Settings(kafka_bootstrap_servers="127.0.0.1:9")
    return lambda temperature: calibrate._publish(settings, "v1", None, fitted(temperature))


async def test_who_was_not_first_with_a_generation_takes_the_next(
    log: list[Outgoing], publish: Callable[[float], Any]
) -> None:
    first, published = await publish(2.0)
    assert (first.generation, published) == (1, True)
    second, published = await publish(3.0)
    assert (second.generation, second.temperature, published) == (2, 3.0, True)
    known = await calibrate.read_versions(Settings())
    assert known.calibrations["v1"] == {1: first, 2: second}
    assert len(log) == 3


async def test_who_was_not_first_and_says_the_same_publishes_nothing_more(
    log: list[Outgoing], publish: Callable[[float], Any]
) -> None:
    first, _ = await publish(2.0)
    second, published = await publish(2.0)
    assert isinstance(second, VersionCalibration)
    assert (second, published) == (first, False)
    assert len(log) == 2


def test_only_texts_that_reached_the_model_by_chance_count() -> None:
    at = datetime(2026, 3, 1, tzinfo=UTC)

    def given(number: int, *, by_proxy: bool) -> GivenLabel:
        return GivenLabel(at, "a", 0.9, None, text=f"t{number}", by_proxy=by_proxy, labeled_at=number)

    # The proxy begins with the 100th, and leaves the odd ones to the model.
    labels = {Place(at, str(n)): given(n, by_proxy=n >= 100 and n % 2 == 0) for n in range(300)}
    kept = {one.labeled_at for one in calibrate.of_all_texts(labels, "v1", 0.3).values()}
    audited = {n for n in range(100, 300) if n % 2 and is_audited("v1", f"t{n}", 0.3)}
    assert kept == {*range(100), *audited}
    before = {place: one for place, one in labels.items() if one.labeled_at < 100}
    assert calibrate.of_all_texts(before, "v1", 0.0) == before
