"""The health endpoint: what it says, and that it says it while the event loop hangs."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from connectors.llm.limit import LimitState
from streams.core.errors import ConfigurationError
from streams.observability import health as module
from streams.observability.collectors import agents_metrics, poller_metrics, release, sink_metrics
from streams.observability.health import Health, run_notes, served
from streams.pipeline.llm_metrics import EndpointReading, llm_metrics
from tests.waiting import PATIENCE


def _ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as tried:
            tried.bind(("::1", 0))
    except OSError:
        return False
    return True


def ask(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_a_role_is_ready_when_it_works_and_says_what_it_waits_for(tmp_path: Path) -> None:
    health = Health("sink")
    async with served(health, "127.0.0.1", 0, tmp_path) as url:
        health.wait_for("ClickHouse")
        assert await asyncio.to_thread(ask, f"{url}/readyz") == (503, "ClickHouse\n")
        assert await asyncio.to_thread(ask, f"{url}/healthz") == (200, f"ok\nlabelstream {release()}\n")
        health.working()
        assert await asyncio.to_thread(ask, f"{url}/readyz") == (200, "ok\n")
        health.stalled = "no progress for 60 s"
        assert (await asyncio.to_thread(ask, f"{url}/healthz"))[0] == 503
        assert (await asyncio.to_thread(ask, f"{url}/nothing"))[0] == 404
        health.state = lambda: {"counts": {"done": 3}}
        state = json.loads((await asyncio.to_thread(ask, f"{url}/state"))[1])
        assert (state["role"], state["counts"]) == ("sink", {"done": 3})
        (note,) = (tmp_path / "run").iterdir()
        assert json.loads(note.read_text())["url"] == url
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.skipif(not _ipv6(), reason="the machine has no IPv6")
@pytest.mark.parametrize("host", ["::1", "[::1]"])
async def test_it_listens_on_ipv6_alone(tmp_path: Path, host: str) -> None:
    async with served(Health("sink"), host, 0, tmp_path) as url:
        assert url.startswith("http://[::1]:")
        assert (await asyncio.to_thread(ask, f"{url}/healthz"))[0] == 200


def test_a_name_with_addresses_of_both_kinds_is_listened_on_as_ipv4(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As `localhost` is on most machines: who scrapes 127.0.0.1 must find it."""
    both = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    with monkeypatch.context() as patched:
        patched.setattr(module.socket, "getaddrinfo", lambda *_, **__: both)
        server = module._server_on("localhost")
    assert server.address_family == socket.AF_INET


async def test_a_host_that_is_no_host_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no-such-host\.invalid"):
        async with served(Health("sink"), "no-such-host.invalid", 0, tmp_path):
            pass


def test_of_notes_with_one_address_the_newest_counts(tmp_path: Path) -> None:
    """A process that was killed leaves its note; another role has got its port."""
    folder = tmp_path / "run"
    folder.mkdir()
    for number, (role, url) in enumerate(
        (("sink", "http://a:1"), ("api", "http://a:1"), ("api", "http://a:2"))
    ):
        note = folder / f"{role}-{number}.json"
        note.write_text(json.dumps({"role": role, "url": url}))
        os.utime(note, ns=(number, number))
    (folder / "torn-9.json").write_text("{")
    assert [note.name for note in run_notes(tmp_path)] == ["api-1.json", "api-2.json", "torn-9.json"]


async def test_a_note_is_never_seen_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, seen = Path.write_text, list[list[Path]]()

    def slowly(path: Path, text: str) -> int:
        write(path, "")
        seen.append(list((tmp_path / "run").glob("*.json")))
        return write(path, text)

    monkeypatch.setattr(Path, "write_text", slowly)
    async with served(Health("sink"), "127.0.0.1", 0, tmp_path) as url:
        (note,) = (tmp_path / "run").glob("*.json")
        assert json.loads(note.read_text())["url"] == url
    assert seen == [[]]


async def test_an_event_loop_that_hangs_is_not_healthy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SILENT_SECONDS", 0.3)
    monkeypatch.setattr(module, "_BEAT_SECONDS", 0.01)
    answers: list[tuple[int, str]] = []
    async with served(Health("agents"), "127.0.0.1", 0, tmp_path) as url:

        def probe() -> None:
            time.sleep(0.6)
            answers.append(ask(f"{url}/healthz"))

        thread = threading.Thread(target=probe)
        thread.start()
        time.sleep(1.0)  # noqa: ASYNC251 - the hang itself
        thread.join()
    status, why = answers[0]
    assert status == 503
    assert "has not turned" in why


async def test_a_taken_port_is_refused_by_its_setting(tmp_path: Path) -> None:
    async with served(Health("a"), "127.0.0.1", 0, tmp_path) as url:
        port = int(url.rpartition(":")[2])
        with pytest.raises(ConfigurationError) as caught:
            async with served(Health("b"), "127.0.0.1", port, tmp_path):
                pass
    assert caught.value.setting == "HEALTH_PORT"


async def test_metrics_are_prometheus_text_and_tell_the_counts(tmp_path: Path) -> None:
    counts = Counter(
        {"done:label": 5, "retries:label": 2, "dead_letters:label": 1, "dead_letters:label:gave-up": 1}
    )
    state = LimitState(64, 3, 2, 1, True, "grows", None)
    health = Health("agents")
    health.measure = lambda: [
        *agents_metrics(counts, 3, 4),
        *llm_metrics(
            {"labeler": EndpointReading(state, Counter({"calls": 9, "output_tokens": 70}), "json_schema")}
        ),
        *poller_metrics(
            Counter({"published": 8, "skipped:empty": 2}),
            active=True,
            watermark=1_800_000_000_000_000,
            polled_at=None,
            unread=True,
        ),
        *sink_metrics(Counter({"stored:logs_labeled": 6, "inserts": 2})),
    ]
    async with served(health, "127.0.0.1", 0, tmp_path) as url:
        _, text = await asyncio.to_thread(ask, f"{url}/metrics")
    found = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    expected = {
        ("labelstream_messages_total", (("outcome", "done"), ("step", "label"))): 5,
        ("labelstream_dead_letters_total", (("reason", "gave-up"), ("step", "label"))): 1,
        ("labelstream_source_unread", ()): 1,
        ("labelstream_messages_in_flight", ()): 3,
        ("labelstream_llm_limit", (("endpoint", "labeler"),)): 64,
        ("labelstream_llm_queue", (("class", "replay"), ("endpoint", "labeler"))): 1,
        ("labelstream_llm_limit_reason", (("endpoint", "labeler"), ("reason", "grows"))): 1,
        ("labelstream_llm_form", (("endpoint", "labeler"), ("form", "json_schema"))): 1,
        ("labelstream_llm_calls_total", (("endpoint", "labeler"),)): 9,
        ("labelstream_source_rows_skipped_total", (("reason", "empty"),)): 2,
        ("labelstream_source_watermark_timestamp_seconds", ()): 1_800_000_000,
        ("labelstream_stored_rows_total", (("table", "logs_labeled"),)): 6,
        ("labelstream_role_ready", ()): 0,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert "process_resident_memory_bytes" in text


async def test_a_role_runs_where_no_note_can_be_left(tmp_path: Path) -> None:
    data = tmp_path / "file"
    data.write_text("")
    async with served(Health("a"), "127.0.0.1", 0, data) as url:
        assert ask(f"{url}/healthz")[0] == 200
