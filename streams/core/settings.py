"""The settings: one declaration each, from the environment and `.env`, passed down as a value.

`.env.example` and `docs/reference/settings.md` are generated from the descriptions here
(`labelstream describe env`). Secrets are `SecretStr` and never shown. `environment.py` reads them.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, StringConstraints, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from streams.core.api_keys import parse_keys
from streams.core.label_version import HUMAN

Name = Annotated[str, StringConstraints(pattern=r"^[^`'\"\\;\x00-\x1f]{1,200}$")]
OptionalName = Annotated[str, StringConstraints(pattern=r"^[^`'\"\\;\x00-\x1f]{0,200}$")]
# Kafka's default for `segment.ms`.
SEGMENT_DAYS = 7
_URL = r"https?://[^\s/,]+(?:/[^\s,]*)?"
Urls = Annotated[str, StringConstraints(pattern=rf"^\s*{_URL}(?:\s*,\s*{_URL})*\s*$")]


class TraceSettings(BaseSettings):
    """Where traces are sent, and which: OpenTelemetry's own settings, with its names and meanings."""

    otel_exporter_otlp_endpoint: (
        Annotated[str, StringConstraints(pattern=r"^https?://[^\s/,?#]+[^\s,?#]*$")] | None
    ) = Field(
        default=None,
        description="Base URL of an OpenTelemetry collector, OTLP over HTTP (mostly port 4318); "
        "`/v1/traces` is added. Unset: no traces.",
    )
    otel_exporter_otlp_traces_endpoint: (
        Annotated[str, StringConstraints(pattern=r"^https?://[^\s/,?#]+[^\s,?#]*$")] | None
    ) = Field(
        default=None,
        description="The same for traces alone, as it is: with its path. Each variable of this form with "
        "`_TRACES_` outweighs the one without.",
    )
    otel_exporter_otlp_headers: SecretStr | None = Field(
        default=None, description="Headers for the collector: `name=value`, comma separated, URL-encoded."
    )
    otel_exporter_otlp_traces_headers: SecretStr | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_protocol: str = Field(
        default="http/protobuf", description="Only `http/protobuf`: gRPC is not spoken."
    )
    otel_exporter_otlp_traces_protocol: str | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_certificate: Path | None = Field(
        default=None, description="PEM file of the CA that signed the collector's certificate."
    )
    otel_exporter_otlp_traces_certificate: Path | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_client_certificate: Path | None = Field(
        default=None, description="PEM file of the certificate to show the collector, if it asks for one."
    )
    otel_exporter_otlp_traces_client_certificate: Path | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_client_key: Path | None = Field(
        default=None, description="PEM file of the key of that certificate."
    )
    otel_exporter_otlp_traces_client_key: Path | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_compression: str = Field(
        default="none",
        description="`gzip` or `none`; gzip costs some processor time, and saves nine tenths.",
    )
    otel_exporter_otlp_traces_compression: str | None = Field(
        default=None, description="The same for traces alone."
    )
    otel_exporter_otlp_timeout: int = Field(
        default=10_000, ge=1, le=600_000, description="Longest wait for the collector, in milliseconds."
    )
    otel_exporter_otlp_traces_timeout: int | None = Field(
        default=None, ge=1, le=600_000, description="The same for traces alone."
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


class Settings(TraceSettings):
    """Every setting, with its default. Environment names are the field names in capitals."""

    model_config = SettingsConfigDict(
        env_file=None, extra="ignore", frozen=True, env_ignore_empty=True, case_sensitive=False
    )

    # --- ClickHouse: the source table and the result tables ---
    clickhouse_host: str | None = Field(
        default=None,
        description="Host of ClickHouse, or several replicas: `a,b:8124`. One is used as long as it works, "
        "then the next. Unset: the local stack's, if it runs.",
    )
    clickhouse_port: int = Field(default=8123, ge=1, le=65535, description="HTTP port of ClickHouse.")
    clickhouse_username: str = Field(default="default", description="User of ClickHouse.")
    clickhouse_password: SecretStr = Field(default=SecretStr(""), description="Password of that user.")
    clickhouse_database: Name = Field(default="esk", description="Database of the source table.")
    clickhouse_table: Name = Field(default="logs", description="The source table.")
    clickhouse_text_column: Name = Field(default="query_text", description="Column with the query's text.")
    clickhouse_domain_column: OptionalName = Field(
        default="domain", description="Column with the domain that the source noted; `none` if there is none."
    )
    clickhouse_timestamp_column: Name = Field(
        default="created_at", description="Column with the row's time (DateTime or DateTime64)."
    )
    clickhouse_user_id_column: OptionalName = Field(
        default="user_id", description="Column with the user; `none` if there is none."
    )
    clickhouse_id_column: OptionalName = Field(
        default="id",
        description="Column with the row's id; `none` if there is none: then a row is known by a digest of "
        "its time, user and text.",
    )
    clickhouse_session_id_column: OptionalName = Field(
        default="session_id", description="Column with the session; `none` if there is none."
    )
    clickhouse_result_database: Name | None = Field(
        default=None, description="Database of the result tables. Unset: CLICKHOUSE_DATABASE."
    )
    clickhouse_cluster: Name | None = Field(
        default=None,
        description="Cluster whose hosts, of all shards, hold the result tables; `labelstream init` makes "
        "them ON CLUSTER. Unset: one server, a Replicated database or ClickHouse Cloud, which is found by "
        "looking.",
    )
    clickhouse_secure: bool = Field(default=False, description="TLS to ClickHouse (then mostly port 8443).")
    clickhouse_ca_cert: Path | None = Field(
        default=None, description="PEM file of the CA that signed ClickHouse's certificate."
    )

    # --- Kafka ---
    kafka_bootstrap_servers: str | None = Field(
        default=None, description="`host:port`, comma separated. Unset: the local stack's, if it runs."
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to connect to Kafka."
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, for the SASL protocols."
    )
    kafka_sasl_username: str | None = Field(default=None, description="SASL user.")
    kafka_sasl_password: SecretStr | None = Field(default=None, description="SASL password.")
    kafka_ssl_cafile: Path | None = Field(
        default=None, description="PEM file of the CA that signed the brokers' certificates."
    )
    kafka_ssl_certfile: Path | None = Field(default=None, description="PEM client certificate, if asked for.")
    kafka_ssl_keyfile: Path | None = Field(default=None, description="PEM key of the client certificate.")
    kafka_ssl_key_password: SecretStr | None = Field(default=None, description="Password of that key.")
    topic_prefix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$")] = Field(
        default="esk", description="First part of every topic's and consumer group's name."
    )
    topic_partitions: int = Field(
        default=8, ge=1, le=1024, description="Partitions of each topic; fixed once `init` has made them."
    )
    topic_replication_factor: int | None = Field(
        default=None,
        ge=1,
        le=15,
        description="Replicas of each topic. Unset: 3, or as many as there are brokers.",
    )
    topic_min_insync_replicas: int | None = Field(
        default=None,
        ge=1,
        le=15,
        description="Replicas that must confirm a write. Unset: one less than the replicas, at least 1.",
    )
    topic_retention_days: int = Field(
        default=30,
        ge=1,
        le=36500,
        description="How long the topics keep messages, for replay and late subscribers.",
    )

    # --- LLM endpoints (OpenAI-compatible) ---
    llm_labeler_api_base: Urls | None = Field(
        default=None,
        description="Base URL of the labelling model, ending in /v1, or several, comma separated, that serve "
        "the same model under one name. Unset: the local stand-in, if it runs.",
    )
    llm_labeler_model: str | None = Field(
        default=None, description="Model name. Unset: the only model that the endpoint offers."
    )
    llm_labeler_api_key: SecretStr | None = Field(
        default=None, description="Bearer key, if the endpoint asks for one."
    )
    llm_labeler_concurrency: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="Most labelling requests in flight in one worker, for each endpoint.",
    )
    llm_labeler_mode: Literal["json", "choice", "auto"] = Field(
        default="json",
        description="How the label is asked for: `json`, an object held to the taxonomy by a schema; "
        "`choice`, an option's letter in one token (at most 20 labels, else json); `auto` asks the endpoint "
        "at the start and takes choice where it works. Part of the label version.",
    )
    llm_augmenter_api_base: Urls | None = Field(
        default=None,
        description="Base URL of the augmenting model, or several, as for the labelling model. Unset: the "
        "local stand-in, if it runs.",
    )
    llm_augmenter_model: str | None = Field(
        default=None, description="Model name. Unset: the only model that the endpoint offers."
    )
    llm_augmenter_api_key: SecretStr | None = Field(
        default=None, description="Bearer key, if the endpoint asks for one."
    )
    llm_augmenter_concurrency: int = Field(
        default=32,
        ge=1,
        le=4096,
        description="Most augmenting requests in flight in one worker, for each endpoint.",
    )
    llm_augmenter_mode: Literal["json"] = Field(default="json", description="How the variants are asked for.")
    llm_timeout_seconds: float = Field(
        default=60.0, gt=0, le=3600, description="Longest wait for one answer of an endpoint."
    )
    llm_ca_cert: Path | None = Field(
        default=None, description="PEM file of the CA that signed the endpoints' certificates."
    )
    augment_variants: int = Field(default=3, ge=0, le=20, description="Variants asked for a row; 0 for none.")
    augment_verify: float = Field(
        default=0.05,
        ge=0.0,
        le=1.0,
        description="Share of the rows, drawn at random, whose variants are labelled too; a variant with "
        "another label than its row is rejected. It uses what live rows leave of the labelling model.",
    )

    # --- Reading, cleaning and label versions ---
    min_text_length: int = Field(
        default=3, ge=0, description="Texts of at most so many UTF-8 bytes are skipped (`length(text) > 3`)."
    )
    poll_interval_seconds: float = Field(default=1.0, gt=0, le=3600, description="Pause between polls.")
    poll_lookback_seconds: float = Field(
        default=600.0, ge=0, description="How late a row may appear after its own time and still be found."
    )
    poll_start: Annotated[str, NoDecode] = Field(
        default="beginning",
        description="Where a first start reads from: `beginning`, `now`, or an RFC 3339 time.",
    )
    taxonomy_path: Path = Field(default=Path("taxonomy.yaml"), description="The labels, with descriptions.")
    label_version: Annotated[str, StringConstraints(pattern=r"^[\w.:@+-]{1,100}$")] | None = Field(
        default=None, description="Name of the label version. Unset: made from model, prompt and taxonomy."
    )
    promote_margin: float = Field(
        default=0.03,
        gt=0,
        lt=1,
        description="The loss of accuracy with which a label version may still be promoted.",
    )

    # --- The cascade: a cheap proxy labels what it is sure of, the LLM the rest ---
    cascade: Literal["off", "shadow", "on"] = Field(
        default="shadow",
        description="`on`: a certified proxy labels the texts that it is sure of. `shadow`: it learns, "
        "is certified and says what it would save. `off`: nothing of it.",
    )
    cascade_margin: float = Field(
        default=0.01,
        gt=0,
        lt=0.5,
        description="The loss of accuracy against the LLM that the certificate of a proxy allows.",
    )
    cascade_risk: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="The chance that any certificate of a label version is wrong.",
    )
    cascade_delay_minutes: float = Field(
        default=480.0,
        gt=0,
        le=525_600,
        description="Within which time the audits are to find a proxy that has become worse.",
    )

    # --- The review of labels ---
    review_audit_share: float = Field(
        default=0.01,
        ge=0.0,
        le=1.0,
        description="Share of the live rows that are drawn at random for people to label, without the "
        "model's answer. What is known of the labels' accuracy comes from them.",
    )
    review_audit_per_label: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="Rows of each label that are drawn each week at least, for labels that are rare. Rows of "
        "such a label are offered when their week is over.",
    )
    review_overlap: float = Field(
        default=0.1,
        ge=0.0,
        le=1.0,
        description="Share of the drawn rows that a second person labels too, without the first one's "
        "answer.",
    )

    # --- Personal data ---
    privacy: Literal["off", "mask"] = Field(
        default="off",
        description="`mask`: personal data in a text becomes a placeholder, and user and session become "
        "pseudonyms, before anything is published.",
    )
    privacy_entities: str = Field(
        default="all",
        description="What is masked, comma separated: phone, email, card, passport, snils, inn, oms, "
        "account, plate, name, address; or `all`.",
    )
    privacy_secret: SecretStr | None = Field(
        default=None,
        description="Makes the pseudonyms, 16 characters or more, the same in each process. To rotate it: "
        "`2:NEW,1:OLD`, the newest first; the generation stands in a pseudonym. Keep it set when PRIVACY is "
        "switched off.",
    )

    result_retention_days: int = Field(
        default=0,
        ge=0,
        le=36500,
        description="After how many days the result tables forget what they stored, 0: never. At least a "
        "week more than TOPIC_RETENTION_DAYS. `labelstream init` changes it.",
    )

    # --- The service ---
    fetch_interval_hours: float = Field(default=6.0, gt=0, description="How often the fetcher exports.")
    api_port: int = Field(default=8080, ge=0, le=65535, description="Port of the API.")
    api_host: str = Field(
        default="127.0.0.1",
        description="Address on which the API listens. Another than this machine's own needs API_KEYS.",
    )
    api_keys: SecretStr | None = Field(
        default=None,
        description="Keys of the API's clients, comma separated: `name:scope:key`. Scopes, each with those "
        "before it: `read`, `review` (label rows), `write` (change all else), `admin` (see who looked at "
        "whose rows). A key is given as it is, 8 characters or more, or as `sha256=` and its digest. "
        "Unset: no key is asked for, and the API serves this machine only.",
    )
    api_session_secret: SecretStr | None = Field(
        default=None,
        description="Signs the sessions of people on the page; the same in each process of the API that they "
        "may reach. Unset: made anew at each start, which ends their sessions.",
    )
    api_requests_per_second: float = Field(
        default=100.0,
        ge=0,
        le=1e6,
        description="Most requests of one client of the API, in bursts twice as many; 0: no limit.",
    )
    api_body_bytes: int = Field(
        default=2**20, ge=1024, description="Largest body of a request to the API, uploads excepted."
    )
    api_stream_seconds: float = Field(
        default=3600.0,
        gt=0,
        le=86_400,
        description="Longest time of one stream of labels; its client comes again and goes on.",
    )
    api_upload_bytes: int = Field(
        default=2**31, ge=1024, description="Largest file that may be uploaded to the API (2 GiB)."
    )
    upload_retention_days: int = Field(
        default=30,
        ge=1,
        le=36500,
        description="After how many days uploaded and exported files are deleted, unless a job needs them.",
    )
    health_host: str = Field(
        default="127.0.0.1", description="Address on which a role's health endpoint listens."
    )
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of a role's /healthz, /readyz and /metrics; 0: any free one, noted in the log.",
    )
    labelstream_data: Path = Field(
        default=Path(".labelstream"), description="Folder for local state and logs."
    )
    log_format: Literal["console", "json"] = Field(default="console", description="Form of the log lines.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least log level."
    )

    @field_validator(
        "clickhouse_domain_column",
        "clickhouse_user_id_column",
        "clickhouse_id_column",
        "clickhouse_session_id_column",
    )
    @classmethod
    def _none_is_empty(cls, value: str) -> str:
        return "" if value.lower() == "none" else value

    @field_validator("poll_start")
    @classmethod
    def _start_is_known(cls, value: str) -> str:
        if value in ("beginning", "now"):
            return value
        try:
            parsed = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError("write `beginning`, `now`, or a time such as 2026-01-31T00:00:00Z") from error
        if parsed.tzinfo is None:
            raise ValueError("the time has no zone: add Z for UTC, or +03:00")
        return parsed.astimezone(UTC).isoformat()

    @field_validator(
        "clickhouse_ca_cert",
        "llm_ca_cert",
        "kafka_ssl_cafile",
        "kafka_ssl_certfile",
        "kafka_ssl_keyfile",
        "otel_exporter_otlp_certificate",
        "otel_exporter_otlp_traces_certificate",
        "otel_exporter_otlp_client_certificate",
        "otel_exporter_otlp_traces_client_certificate",
        "otel_exporter_otlp_client_key",
        "otel_exporter_otlp_traces_client_key",
    )
    @classmethod
    def _file_is_there(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_file():
            raise ValueError(f"there is no file {value}")
        return value

    @field_validator("label_version")
    @classmethod
    def _people_have_their_own(cls, value: str | None) -> str | None:
        if value == HUMAN:
            raise ValueError(f"{HUMAN} is the version of the labels that people give")
        return value

    @field_validator("api_keys")
    @classmethod
    def _keys_have_their_form(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            parse_keys(value.get_secret_value())
        return value

    @model_validator(mode="after")
    def _mask_has_a_secret(self) -> Self:
        if self.privacy == "mask" and self.privacy_secret is None:
            raise ValueError(
                "PRIVACY is mask: set PRIVACY_SECRET, which makes the pseudonyms, the same in each process"
            )
        return self

    @model_validator(mode="after")
    def _masked_rows_have_ids_of_their_own(self) -> Self:
        personal = (self.clickhouse_user_id_column, self.clickhouse_session_id_column)
        named = self.clickhouse_id_column
        if self.privacy == "mask" and named and named in (*personal, self.clickhouse_text_column):
            raise ValueError(
                f"PRIVACY is mask, and CLICKHOUSE_ID_COLUMN is {named}: ids of rows are published as they "
                "are; name another column, or none"
            )
        return self

    @model_validator(mode="after")
    def _tables_keep_what_topics_have(self) -> Self:
        # What a table has forgotten and a topic has not would be stored again. Kafka deletes a message with
        # its segment, which others keep for a week.
        least = self.topic_retention_days + SEGMENT_DAYS
        if 0 < self.result_retention_days < least:
            raise ValueError(
                f"RESULT_RETENTION_DAYS is {self.result_retention_days}: with TOPIC_RETENTION_DAYS "
                f"{self.topic_retention_days} it must be at least {least}"
            )
        return self

    @model_validator(mode="after")
    def _sasl_is_whole(self) -> Self:
        if self.kafka_security_protocol.startswith("SASL") and not (
            self.kafka_sasl_username and self.kafka_sasl_password
        ):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL is {self.kafka_security_protocol}: "
                "set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        return self

    @property
    def source_table(self) -> str:
        """Database and name of the source table, as keys and messages name it."""
        return f"{self.clickhouse_database}.{self.clickhouse_table}"

    @property
    def result_database(self) -> str:
        """The database of the result tables."""
        return self.clickhouse_result_database or self.clickhouse_database

    def api_bases(self, which: str) -> list[str]:
        """The base URLs of the ``labeler`` or the ``augmenter``; none if they are not set."""
        given: str = getattr(self, f"llm_{which}_api_base") or ""
        return list(dict.fromkeys(url.strip() for url in given.split(",") if url.strip()))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # `load` merges .env and the environment itself, so that one place can name unknown settings.
        return (init_settings,)
