"""What the commands of `labelstream cascade` say."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner

from agents.proxy.fit import fit
from streams.cli.versions import commands as cli
from streams.core.cascade import CascadeState, ProxyRef
from streams.core.errors import RefusedError
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.topics import Topics
from streams.versions import cascade
from streams.versions.topic import KnownVersions
from tests.unit.agents.proxy.test_classifier import queries

TAUGHT = queries(200)
TOPICS = Topics("esk")
ON = Settings(cascade="on", clickhouse_host="127.0.0.1", kafka_bootstrap_servers="127.0.0.1:9")


@pytest.fixture(scope="module")
def packed() -> bytes:
    return fit(*TAUGHT).pack()


class Log:
    """The versions topic, and `v1` as the current version."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.messages: list[Outgoing] = []
        monkeypatch.setattr(cascade, "read_versions", self.read)
        monkeypatch.setattr(cascade, "send_each", self.send)
        monkeypatch.setattr(cascade, "name_of_current", self.current)

    async def send(self, _: Any, messages: Sequence[Outgoing]) -> None:
        self.messages += messages

    async def read(self, _: Settings) -> KnownVersions:
        known = KnownVersions()
        for offset, one in enumerate(self.messages):
            known.learn(Record(one.topic, 0, offset, 0, one.key, one.value))
        return known

    @staticmethod
    async def current(*_: Any) -> str:
        return "v1"

    def has(self, packed: bytes, **changes: Any) -> CascadeState:
        ref = ProxyRef.of(2, packed)
        self.messages += ref.messages("v1", packed, TOPICS)
        given: dict[str, Any] = {
            "version": "v1", "state": "certified", "generation": 2, "proxy": ref, "threshold": 0.6,
            "coverage": 0.5, "certified_against": "people", "bound": 0.01, "audit_rate": 0.1, "audits": 7,
            "texts": 100, "routable": 40, "routed": 35, "reset": "",
        }  # fmt: skip
        state = CascadeState(**(given | changes))
        self.messages.append(state.message(TOPICS))
        return state


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Log:
    return Log(monkeypatch)


async def test_status_says_what_is_certified_and_saved(log: Log, packed: bytes) -> None:
    log.has(packed)
    found = await cascade.cascade_status(ON, None)
    told = (
        "version", "generation", "state", "threshold", "coverage", "certified_against", "bound", "audit_rate",
        "audits", "calls_saved",
    )  # fmt: skip
    assert [found[name] for name in told] == ["v1", 2, "certified", 0.6, 0.5, "people", 0.01, 0.1, 7, 35]
    assert found["calls_saved_share"] == pytest.approx(0.36)
    shadow = await cascade.cascade_status(ON.model_copy(update={"cascade": "shadow"}), "v1")
    assert (shadow["mode"], shadow["state"], shadow["calls_saved"]) == ("shadow", "certified", 36)
    off = await cascade.cascade_status(ON.model_copy(update={"cascade": "off"}), "v1")
    assert (off["state"], off["threshold"], off["calls_saved"]) == ("off", None, 0)


async def test_status_of_a_version_without_a_proxy(log: Log, packed: bytes) -> None:
    found = await cascade.cascade_status(ON, None)
    assert (found["state"], found["generation"], found["threshold"], found["audits"]) == (
        *("learning", 0, None, 0),
    )
    log.has(packed, state="revoked", revoked_why="all labels: 5 of 9 differ")
    found = await cascade.cascade_status(ON, None)
    assert (found["state"], found["threshold"], found["revoked_why"]) == (
        *("revoked", None, "all labels: 5 of 9 differ"),
    )
    with pytest.raises(RefusedError, match="no label version v9"):
        await cascade.cascade_status(ON, "v9")


async def test_a_reset_ends_the_certificate_before_any_trainer_has_seen_it(log: Log, packed: bytes) -> None:
    log.has(packed)
    found = await cascade.reset_cascade(ON, None)
    assert (found["state"], found["threshold"]) == ("learning", None)
    assert (await cascade.explain(ON, TAUGHT[0][0], None))["decision"] == "none"


async def test_explain_says_who_labels_a_text_and_why(log: Log, packed: bytes) -> None:
    log.has(packed, audit_rate=0.0)
    text, label = TAUGHT[0][0], TAUGHT[1][0]
    found = await cascade.explain(ON, f"  {text}\n", None)
    assert (found["decision"], found["label"], found["text"]) == ("proxy", label, text)
    assert found["score"] >= found["threshold"] == 0.6
    weights = [one["weight"] for one in found["ngrams"]]
    assert weights == sorted(weights, reverse=True)
    assert all(one["ngram"] in f" {text} " for one in found["ngrams"])
    assert (await cascade.explain(ON, "where is my refund", "v1"))["decision"] == "novel"
    for changes, decision in (({"vetoed": [label]}, "vetoed"), ({"threshold": 1.01}, "unsure"),
                              ({"audit_rate": 1.0}, "audit"), ({"state": "revoked"}, "none")):  # fmt: skip
        log.has(packed, **changes)
        assert (await cascade.explain(ON, text, None))["decision"] == decision
    with pytest.raises(RefusedError, match="empty"):
        await cascade.explain(ON, " \x00", None)


async def test_a_proxy_that_is_not_certified_yet_can_be_asked(log: Log, packed: bytes) -> None:
    log.has(packed, state="learning", proxy=None, candidate=ProxyRef.of(2, packed), threshold=None)
    found = await cascade.explain(ON, TAUGHT[0][0], None)
    assert (found["decision"], found["label"], found["proxy"]) == ("none", TAUGHT[1][0], 2)


def test_the_commands_say_it_for_people_and_for_programs(
    log: Log, packed: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.has(packed)
    monkeypatch.setattr(cli, "ask", lambda work: asyncio.run(work(ON)))
    said = CliRunner().invoke(cli.cascade_app, ["status"]).stdout
    assert "v1: certified, generation 2, CASCADE=on" in said
    assert "saved 35 calls so far (36% of the new texts)" in said
    (line,) = CliRunner().invoke(cli.cascade_app, ["status", "--json"]).stdout.splitlines()
    assert orjson.loads(line)["calls_saved"] == 35
    said = CliRunner().invoke(cli.cascade_app, ["explain", "where is my refund"]).stdout
    assert "unlike the texts that taught the proxy" in said
