"""Spans reach a collector as OTLP, and no collector holds up or fails the work."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import structlog
import trustme

from connectors.otel.collector import Collector, reach
from connectors.otel.exporter import OtlpExporter
from streams.core.errors import UnavailableError
from streams.ports.spans import Event, Span, SpanContext, SpanKind
from tests.otlp_receiver import OtlpReceiver, attributes_of
from tests.waiting import PATIENCE

PARENT = SpanContext(b"t" * 16, b"p" * 8, True)


def span(number: int = 0, **changes: object) -> Span:
    return Span(
        "label",
        SpanKind.CONSUMER,
        SpanContext(b"t" * 16, number.to_bytes(8, "big"), True),
        PARENT.span_id,
        10,
        20,
        {"row": "Я", "offset": 5, "cached": True, "share": 0.5, "reasons": ["stop"]},
    )._replace(**changes)


def exporter_to(url: str) -> OtlpExporter:
    collector = Collector(f"{url}/v1/traces", {"authorization": "Bearer s3cret"}, None, PATIENCE)
    return OtlpExporter(collector, {"service.name": "x"}, "0.1")


def test_a_collector_gets_what_was_recorded() -> None:
    with OtlpReceiver() as receiver:
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1, links=(PARENT,), events=[Event("retry", 15, {"suspect": False})]))
        exporter.take(span(2, failed="no-label", kind=SpanKind.CLIENT))
        exporter.close(PATIENCE)
    (path, headers), *_ = receiver.requests
    assert path == "/v1/traces"
    assert headers["content-type"] == "application/x-protobuf"
    assert headers["authorization"] == "Bearer s3cret"
    assert receiver.resources[0] == {"service.name": "x"}
    one, other = receiver.spans
    assert (one.trace_id, one.parent_span_id, one.kind, one.status.code) == (b"t" * 16, b"p" * 8, 5, 0)
    assert (one.start_time_unix_nano, one.end_time_unix_nano) == (10, 20)
    assert attributes_of(one) == dict(span().attributes)
    assert [(link.trace_id, link.span_id) for link in one.links] == [PARENT[:2]]
    assert [(event.name, attributes_of(event)) for event in one.events] == [("retry", {"suspect": False})]
    assert (other.status.code, other.status.message) == (2, "no-label")
    assert exporter.counts == {"exported": 2, "dropped": 0, "failed": 0}


def test_what_finds_no_room_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.otel.exporter._MOST_WAITING", 3)
    monkeypatch.setattr("connectors.otel.exporter._BATCH", 3)
    monkeypatch.setattr("connectors.otel.exporter._GATHER_MILLISECONDS", 3_600_000)
    with OtlpReceiver() as receiver, structlog.testing.capture_logs() as logs:
        receiver.holds.set()
        exporter = exporter_to(receiver.endpoint)
        for number in range(3):
            exporter.take(span(number))
        wait_for(lambda: bool(receiver.requests))  # the three are sent, and the collector takes its time
        for number in range(5):
            assert exporter.full == (number >= 3)
            exporter.take(span(number))
        exporter.dropped(10)
        assert exporter.counts["dropped"] == 12
        assert [line["event"] for line in logs] == ["spans_dropped"]
        receiver.holds.clear()
        exporter.close(PATIENCE)
    assert exporter.counts == {"exported": 6, "dropped": 12, "failed": 0}


def test_a_collector_that_is_away_is_told_of_once_and_gets_all_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("connectors.otel.exporter._FIRST_PAUSE", 0.01)
    with OtlpReceiver() as receiver, structlog.testing.capture_logs() as logs:
        receiver.first = [503, 503]
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1))
        exporter.take(span(2))
        wait_for(lambda: exporter.counts["exported"] == 2)
        exporter.close(PATIENCE)
    assert exporter.counts == {"exported": 2, "dropped": 0, "failed": 0}
    assert [line["event"] for line in logs] == ["traces_not_sent", "traces_sent_again"]
    assert "s3cret" not in str(logs)


def test_a_role_ends_without_its_collector() -> None:
    exporter = exporter_to("http://127.0.0.1:9")
    exporter.take(span(1))
    exporter.close(0.1)
    assert exporter.counts == {"exported": 0, "dropped": 0, "failed": 1}


def test_what_a_collector_refuses_is_counted_and_not_sent_again() -> None:
    with OtlpReceiver() as receiver, structlog.testing.capture_logs() as logs:
        receiver.status = 400
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1))
        exporter.close(PATIENCE)
    assert exporter.counts == {"exported": 0, "dropped": 0, "failed": 1}
    assert len(receiver.requests) == 1
    assert [line["event"] for line in logs] == ["traces_not_sent"]


def test_spans_that_a_collector_rejects_of_a_request_are_counted_and_told_of() -> None:
    with OtlpReceiver() as receiver, structlog.testing.capture_logs() as logs:
        receiver.rejects = 2
        exporter = exporter_to(receiver.endpoint)
        for number in range(3):
            exporter.take(span(number))
        wait_for(lambda: exporter.counts["exported"] + exporter.counts["failed"] == 3)
        assert exporter.counts["failed"] >= 2
        exporter.close(PATIENCE)
    assert [line["event"] for line in logs] == ["spans_rejected"]
    assert logs[0]["reason"] == "attribute too long"


def test_a_collector_that_says_retry_at_once_is_not_flooded() -> None:
    with OtlpReceiver() as receiver:
        receiver.status = 503
        exporter = OtlpExporter(Collector(f"{receiver.endpoint}/v1/traces", {}, None, 0.8), {}, "0.1")
        exporter.take(span(1))
        exporter.close(PATIENCE)
    assert exporter.counts["failed"] == 1
    assert len(receiver.requests) <= 3


def test_a_collector_is_left_alone_for_as_long_as_it_asks() -> None:
    with OtlpReceiver() as receiver:
        receiver.status, receiver.after = 429, "3600"
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1))
        wait_for(lambda: exporter.counts["failed"] == 1)
        exporter.take(span(2))
        exporter.close(0.3)
    assert len(receiver.requests) == 1
    assert exporter.counts == {"exported": 0, "dropped": 0, "failed": 2}


def test_a_time_to_retry_that_is_none_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.otel.exporter._FIRST_PAUSE", 0.01)
    with OtlpReceiver() as receiver:
        receiver.first, receiver.after = [503], "Wed, 21 Oct 99999999999999999999 07:28:00 GMT"
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1))
        exporter.close(PATIENCE)
    assert exporter.counts == {"exported": 1, "dropped": 0, "failed": 0}


def test_no_proxy_of_the_environment_receives_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with OtlpReceiver() as receiver:
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1))
        exporter.close(PATIENCE)
    assert exporter.counts["exported"] == 1


def test_a_collector_may_ask_for_a_certificate_and_gets_gzip(tmp_path: Path) -> None:
    authority, receiver = trustme.CA(), OtlpReceiver()
    user = authority.issue_cert("labelstream@example.org")
    ca, cert, key = (str(tmp_path / name) for name in ("ca.pem", "user.crt", "user.key"))
    authority.cert_pem.write_to_path(ca)
    user.cert_chain_pems[0].write_to_path(cert)
    user.private_key_pem.write_to_path(key)
    receiver.tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    receiver.tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(receiver.tls)
    authority.issue_cert("127.0.0.1").configure_cert(receiver.tls)
    with receiver:
        collector = Collector(f"{receiver.endpoint}/v1/traces", {}, ca, PATIENCE, True, cert, key)
        reach(collector, "0.1")
        exporter = OtlpExporter(collector, {}, "0.1")
        exporter.take(span(1))
        exporter.close(PATIENCE)
        with pytest.raises(UnavailableError):
            reach(collector._replace(cert_file=None, key_file=None), "0.1")
        with pytest.raises(UnavailableError, match="certificate"):
            reach(collector._replace(ca_file=cert), "0.1")
    assert exporter.counts["exported"] == len(receiver.spans) == 1
    assert receiver.requests[-1][1]["content-encoding"] == "gzip"


def test_what_cannot_be_encoded_fails_alone() -> None:
    with OtlpReceiver() as receiver:
        exporter = exporter_to(receiver.endpoint)
        exporter.take(span(1, attributes={"model": None}))
        exporter.take(span(2, name="\ud800"))
        exporter.close(PATIENCE)
    assert exporter.counts == {"exported": 1, "dropped": 0, "failed": 1}


def wait_for(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.002)
