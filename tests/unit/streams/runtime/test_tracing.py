"""The tracer of a role: off unless a collector is named, and refused with words where it cannot work."""

from __future__ import annotations

from pathlib import Path

import pytest

from streams.core.environment import load
from streams.core.errors import AccessError, ConfigurationError, UnavailableError
from streams.core.settings import Settings
from streams.runtime.tracing import ENDPOINT, collector_of, reach_collector, resource_of, traced
from tests.otlp_receiver import OtlpReceiver


def settings(**given: str) -> Settings:
    return load({ENDPOINT: "http://collector:4318/", **given}, None)


async def test_without_an_endpoint_or_disabled_nothing_is_traced() -> None:
    for found in (load({}, None), settings(OTEL_SDK_DISABLED="true")):
        async with traced(found, "agents") as tracer:
            assert tracer is None


def test_the_standard_variables_are_read() -> None:
    found = settings(
        OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer%20s3cret, x-team=a%2Cb",
        OTEL_EXPORTER_OTLP_TIMEOUT="2500",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=prod,service.name=other",
        OTEL_SERVICE_NAME="mine",
    )
    collector = collector_of(found)
    assert collector is not None
    assert collector.url == "http://collector:4318/v1/traces"
    assert collector.headers == {"authorization": "Bearer s3cret", "x-team": "a,b"}
    assert collector.seconds == 2.5
    assert "s3cret" not in repr(found)
    resource = resource_of(found, "sink")
    assert resource["service.name"] == "mine"
    assert resource["deployment.environment.name"] == "prod"
    assert resource_of(settings(), "sink")["service.name"] == "labelstream-sink"


def test_what_is_for_traces_alone_outweighs_the_rest(tmp_path: Path) -> None:
    (ca := tmp_path / "ca.pem").touch()
    given = {
        "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://traces:4318/own/path",
        "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "authorization=x",
        "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE": str(ca),
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "none",
        "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": str(ca),
        "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY": str(ca),
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "1500",
    }
    for found in (settings(**given), load(given, None)):  # without an endpoint for all signals too
        collector = collector_of(found)
        assert collector is not None
        assert (collector.url, collector.headers) == ("https://traces:4318/own/path", {"authorization": "x"})
        assert (collector.authorities, collector.seconds) == (str(ca), 1.5)
        assert (collector.compressed, collector.cert_file, collector.key_file) == (False, str(ca), str(ca))


@pytest.mark.parametrize(
    "given",
    [
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "s3cret"},
        {"OTEL_EXPORTER_OTLP_COMPRESSION": "zstd"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "s3cret"},
        {"OTEL_EXPORTER_OTLP_HEADERS": "a=s3cret%0d%0ab"},
    ],
)
def test_what_cannot_be_used_is_named(given: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        collector_of(settings(**given))
    assert caught.value.setting == next(iter(given))
    assert "s3cret" not in str(caught.value)


def test_a_slip_is_told_and_other_variables_of_opentelemetry_are_not(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="did you mean OTEL_EXPORTER_OTLP_ENDPOINT"):
        load({"OTEL_EXPORTER_OTLP_ENDPIONT": "http://collector:4318"}, None)
    load({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "x", "OTEL_METRICS_EXPORTER": "none"}, None)
    load({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "x", "OTEL_TRACES_EXPORTER": "otlp"}, None)
    with pytest.raises(ConfigurationError, match="OTEL_TRACES_SAMPLER"):
        load({"OTEL_TRACES_SAMPLER": "jaeger_remote"}, None)


async def test_a_check_tries_the_collector() -> None:
    with OtlpReceiver() as receiver:
        found = settings(**{ENDPOINT: receiver.endpoint}, OTEL_TRACES_SAMPLER="traceidratio")
        assert "takes them" in await reach_collector(found)
        assert len(receiver.requests) == 1
        for status, kind in ((401, AccessError), (404, ConfigurationError), (503, UnavailableError)):
            receiver.status = status
            with pytest.raises(kind, match=str(status)):
                await reach_collector(found)
    with pytest.raises(UnavailableError):
        await reach_collector(settings(**{ENDPOINT: "http://127.0.0.1:9"}))
