"""What `check` says of an endpoint that answers, but not as one should."""

from __future__ import annotations

import gzip
import json
from functools import partial
from typing import Any

import pytest
from aiohttp import web

from streams.core.environment import load
from streams.core.label_version import LabelSpec
from streams.operations import check
from streams.versions.topic import KnownVersions
from tests.unit.connectors.llm.fakes import chat, serving

HTML = "<!doctype html><html><title>Sign in</title></html>"
EVENTS = 'data: {"choices": [{"delta": {"content": "A"}}]}\n\ndata: [DONE]\n\n'


async def found(reply: Any, known: KnownVersions | None = None, **more: str) -> check.Finding:
    """What is said of an endpoint that answers each request so. ``more``: settings."""
    async with serving(lambda *_: reply()) as there:
        settings = load({"LLM_LABELER_API_BASE": there.url, "LLM_LABELER_MODEL": "m", **more}, None)
        return await check._try("a label", partial(check._label, known=known or KnownVersions()), settings)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "_PATIENCE_SECONDS", 0.2)


@pytest.mark.parametrize(
    ("reply", "said", "setting"),
    [
        (lambda: web.Response(text=HTML, content_type="text/html"), "web page", "LLM_LABELER_API_BASE"),
        (lambda: web.Response(text=EVENTS, content_type="text/event-stream"), "stream of events", "LLM_"),
        (lambda: web.Response(body=b"\x1f\x8b\x08broken"), "compressed", ""),
        (lambda: web.Response(text="oops"), "not JSON", ""),
    ],
)
async def test_an_answer_that_is_no_completion_is_named(reply: Any, said: str, setting: str) -> None:
    finding = await found(reply)
    assert not finding.ok
    assert said in finding.message
    assert finding.setting.startswith(setting)
    assert "another model" not in finding.fix


async def test_a_compressed_answer_is_read() -> None:
    def compressed() -> web.Response:
        body = gzip.compress(json.dumps(chat('{"label": "refund"}')).encode())
        return web.Response(body=body, headers={"Content-Encoding": "gzip"})

    finding = await found(compressed)
    assert finding.ok
    assert "without confidence" in finding.message


async def test_a_model_that_does_not_answer_as_it_is_asked_is_told_apart() -> None:
    finding = await found(lambda: web.json_response(chat("I like trains")))
    assert not finding.ok
    assert "another model" in finding.fix


async def test_a_version_is_named_as_the_workers_name_it_where_another_has_the_name() -> None:
    def reply() -> web.Response:
        return web.json_response(chat('{"label": "refund"}'))

    known = KnownVersions()
    assert (await found(reply, known, LABEL_VERSION="v1")).message.endswith("label version v1")
    known.specs["v1"] = LabelSpec(version="v1", model="other", mode="json", prompts={}, taxonomy={})
    assert "label version v1." in (await found(reply, known, LABEL_VERSION="v1")).message


@pytest.mark.parametrize(
    ("role", "without", "tried"),
    [
        ("sink", {"source table", "labeler endpoint", "retention"}, {"result tables", "kafka rights"}),
        ("agents", {"source table"}, {"labeler endpoint", "a label"}),
        ("poller", {"labeler endpoint"}, {"source table", "result tables"}),
        ("fetcher", {"labeler endpoint"}, {"source table", "result tables"}),
        ("trainer", {"labeler endpoint", "augmenter endpoint"}, {"source table", "result tables"}),
        ("", set[str](), {"source table", "result tables", "labeler endpoint", "retention"}),
    ],
)
async def test_of_one_role_only_what_it_needs_is_tried(
    monkeypatch: pytest.MonkeyPatch, role: str, without: set[str], tried: set[str]
) -> None:
    names = set[str]()

    async def well(name: str, *_: Any) -> check.Finding:
        names.add(name)
        return check.Finding(name, True, "")

    async def no_versions(_: Any) -> KnownVersions:
        return KnownVersions()

    monkeypatch.setattr(check, "_try", well)
    monkeypatch.setattr(check, "read_versions", no_versions)
    await check.check_all(load({}, None), role)
    assert tried <= names
    assert not without & names
