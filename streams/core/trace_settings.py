"""OpenTelemetry's own settings, as far as they are read here. Their names and meanings are the standard's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings


class TraceSettings(BaseSettings):
    """Where traces are sent, and which."""

    otel_exporter_otlp_endpoint: (
        Annotated[str, StringConstraints(pattern=r"^https?://[^\s/,?#]+[^\s,?#]*$")] | None
    ) = Field(
        default=None,
        description="Base URL of an OpenTelemetry collector, OTLP over HTTP (mostly port 4318); "
        "`/v1/traces` is added. Unset: no traces.",
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        default=None, description="Headers for the collector: `name=value`, comma separated, URL-encoded."
    )
    otel_exporter_otlp_protocol: str = Field(
        default="http/protobuf", description="Only `http/protobuf`: gRPC is not spoken."
    )
    otel_exporter_otlp_certificate: Path | None = Field(
        default=None, description="PEM file of the CA that signed the collector's certificate."
    )
    otel_exporter_otlp_timeout: int = Field(
        default=10_000, ge=1, le=600_000, description="Longest wait for the collector, in milliseconds."
    )
    otel_traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = Field(
        default="parentbased_always_on",
        description="Which rows are traced; dead letters are always. With `parentbased_` the poller decides "
        "for those after it.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0, ge=0.0, le=1.0, description="Share of the rows for the samplers by `traceidratio`."
    )
    otel_service_name: str | None = Field(
        default=None, description="Name of the service. Unset: `labelstream-` and the role."
    )
    otel_resource_attributes: str | None = Field(
        default=None,
        description="Attributes of every span's resource: `name=value`, comma separated, URL-encoded.",
    )
    otel_sdk_disabled: bool = Field(default=False, description="`true`: no traces, whatever else is set.")
