"""What a command asks of a replay."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from pydantic import SecretStr

from streams.core.errors import ConfigurationError
from streams.core.label_version import LabelSpec
from streams.core.records import Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.jobs.context import JobContext
from streams.jobs.job import Job
from streams.jobs.requests import ReplayRequest, _offsets, replay_job, spec_of
from streams.versions.topic import KnownVersions
from tests.unit.streams.privacy.fakes import SECRET


def test_offsets_for_all_or_some_partitions() -> None:
    assert _offsets("5-10", [0, 1]) == {0: (5, 10), 1: (5, 10)}
    assert _offsets("1/5-", [0, 1]) == {1: (5, None)}
    for text in ("7/0-5", "5", "a-b"):
        with pytest.raises(ConfigurationError):
            _offsets(text, [0, 1])


async def test_the_version_of_the_settings_has_the_name_that_the_workers_give_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`LABEL_VERSION` stayed, and the prompt was changed."""

    def asks(version: str, prompt: str) -> LabelSpec:
        return LabelSpec(version=version, model="m", mode="json", prompts={"label": prompt}, taxonomy={})

    known = KnownVersions()
    old = asks("v1", "old").message(Topics("esk"))
    known.learn(Record(old.topic, 0, 0, 0, old.key, old.value, ()))

    async def versions(settings: Settings) -> KnownVersions:
        return known

    async def of_settings(settings: Settings, *_: Any, version: str | None, **__: Any) -> LabelSpec:
        return asks(version or settings.label_version or "", "new")

    monkeypatch.setattr("streams.jobs.requests.read_versions", versions)
    monkeypatch.setattr("streams.jobs.requests.label_spec", of_settings)
    settings = Settings(
        label_version="v1",
        llm_labeler_api_base="http://127.0.0.1:9",
        taxonomy_path=Path(__file__).parents[4] / "taxonomy.yaml",
    )
    asked = await spec_of(settings, ReplayRequest(source="table"))
    assert (asked.version, asked.prompts) == (f"v1.{asks('v1', 'new').digest}", {"label": "new"})
    named = await spec_of(settings, ReplayRequest(source="table", version="v1"))
    assert (named.version, named.prompts) == ("v1", {"label": "old"})


async def test_a_replay_of_one_person_is_recorded_under_pseudonyms() -> None:
    settings = Settings(privacy="mask", privacy_secret=SecretStr(SECRET))
    context = cast(JobContext, SimpleNamespace(settings=settings, topics=Topics("esk")))
    spec = LabelSpec(version="v1", model="m", mode="json", prompts={}, taxonomy={})
    asked = ReplayRequest(source="table", where=["user=4711", "label=payment"])
    job = await replay_job(context, asked, spec)
    assert b"4711" not in (job.message(context.topics).value or b"")
    assert job.where[0].startswith("user=p1:")
    assert job.where[1] == "label=payment"
    settings = Settings(privacy_secret=SecretStr(SECRET))
    plain = cast(JobContext, SimpleNamespace(settings=settings))
    assert (await replay_job(plain, asked, spec)).where == asked.where


async def test_what_the_proxy_of_the_current_version_labelled_is_labelled_again_under_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def current(*_: Any) -> str:
        return "v1"

    monkeypatch.setattr("streams.jobs.requests.name_of_current", current)
    context = cast(JobContext, SimpleNamespace(settings=Settings(), client=None))

    async def asked(version: str, *where: str) -> Job:
        spec = LabelSpec(version=version, model="m", mode="json", prompts={}, taxonomy={})
        return await replay_job(context, ReplayRequest(source="table", where=list(where)), spec)

    again = await asked("v1", "decided_by=proxy", "proxy_generation=2")
    assert (again.repeats, again.where[2:]) == (True, ["version=v1"])
    assert not (await asked("v2", "decided_by=proxy")).repeats
    assert not (await asked("v1", "decided_by!=proxy")).repeats
    assert not (await asked("v1", "label=payment")).repeats
