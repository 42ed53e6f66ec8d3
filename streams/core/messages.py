"""The messages that flow, one class a topic. This module is their only declaration.

Each message is the one before it plus what the step learned::

    Row  --label-->  Labeled(Row)  --augment-->  Augmented(Labeled)

The codec (``streams/core/codec.py``), the JSON Schema, the ClickHouse tables
(``connectors/clickhouse/schema/tables.py``) and the reference page are made from these classes.
A reader ignores fields that it does not know, so that a newer writer never breaks it;
within a major schema version fields are only ever added, with a default.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from streams.core.label_version import HUMAN


@dataclass(frozen=True)
class Column:
    """The ClickHouse type of a field where the default for its Python type is not the best one.

    ``default``: what rows have that were stored before there was the column, or by an older release, as an
    expression.
    """

    type: str
    default: str = ""


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time without a zone")
    return moment.astimezone(UTC)


Moment = Annotated[datetime, AfterValidator(_in_utc)]
Confidence = Annotated[float, Field(ge=0.0, le=1.0)]
DecidedBy = Literal["llm", "proxy", "human"]


def _decided_before(known: dict[str, Any]) -> DecidedBy:
    """Who decided a label whose message does not say: before schema 1.2 only models and people did."""
    return "human" if known.get("label_version") == HUMAN else "llm"


class Part(BaseModel):
    """A message, or a part of one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    @classmethod
    def made(cls, **fields: Any) -> Self:
        """One of ``fields`` that were checked already, all that there are and in their order.

        Does as `model_construct` does without looking for defaults, which takes five times as long.
        """
        self = cls.__new__(cls)
        object.__setattr__(self, "__dict__", fields)
        object.__setattr__(self, "__pydantic_fields_set__", set(fields))
        object.__setattr__(self, "__pydantic_extra__", None)
        object.__setattr__(self, "__pydantic_private__", None)
        return self


class Message(Part):
    """What every message has: a type name and a schema version, which travel as headers."""

    message_type: ClassVar[str]
    made_by: ClassVar[str]  # the step
    schema_version: ClassVar[str] = "1.0"


class Row(Message):
    """A row of the source table, cleaned, as the poller publishes it. Key: ``row_id``."""

    message_type: ClassVar[str] = "row"
    made_by: ClassVar[str] = "poll"

    row_id: str = Field(
        min_length=1,
        description="Identity of the source row: the plain id for the source table, "
        "`upload:<digest>:<n>` for files, `<digest>:<n>` for a source without an id column.",
    )
    text: str = Field(min_length=1, description="The query, cleaned: Unicode NFKC, no control characters.")
    created_at: Moment = Field(description="When the source row was created, UTC.")
    user_id: str | None = Field(default=None, description="The user, where the source has one.")
    session_id: str | None = Field(default=None, description="The session, where the source has one.")
    source_domain: Annotated[str | None, Column("LowCardinality(Nullable(String))")] = Field(
        default=None, description="The domain that the source table itself had noted."
    )
    polled_at: Moment = Field(description="When the poller read the row, UTC.")


class Alternative(Part):
    """A label and how likely the model found it."""

    label: str
    confidence: Confidence


class Labeled(Row):
    """A row and its label under one label version."""

    message_type: ClassVar[str] = "labeled"
    made_by: ClassVar[str] = "label"
    schema_version: ClassVar[str] = "1.2"

    label: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="A domain name of the taxonomy; never anything else."
    )
    confidence: Confidence | None = Field(
        default=None,
        description="Probability of the label, calibrated where `calibration` is given; null where the "
        "endpoint gives no logprobs. Of a label by the proxy: its score, by its own fit the probability "
        "that the model would give this label.",
    )
    alternatives: list[Alternative] = Field(
        default_factory=list, description="The other likely labels, most likely first."
    )
    label_version: Annotated[str, Column("LowCardinality(String)")] = Field(
        min_length=1, description="Which model, prompt and taxonomy decided."
    )
    model: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="The labelling model's name; of a label by the proxy the model that taught it, of one by "
        "a person `human:` and the name."
    )
    labeled_at: Moment = Field(description="When the label was decided, UTC.")
    cached: bool = Field(default=False, description="Taken from an equal text's answer, without a call.")
    confidence_raw: Confidence | None = Field(
        default=None, description="The confidence as the model reported it, before calibration."
    )
    calibration: int | None = Field(
        default=None,
        description="Generation of the version's calibration that `confidence` and `alternatives` went "
        "through; null: none, they are as reported.",
    )
    decided_by: Annotated[
        DecidedBy,
        Column("LowCardinality(String)", default=f"if(label_version = '{HUMAN}', 'human', 'llm')"),
    ] = Field(
        default_factory=_decided_before,
        description="Who decided: `llm`, the version's model; `proxy`, a classifier taught by its labels and "
        "certified for the version; `human`, a person.",
    )
    proxy_generation: Annotated[int, Field(ge=1)] | None = Field(
        default=None,
        description="Only on labels by the proxy: its generation, counted in each label version.",
    )


class HumanLabel(Labeled):
    """A label that a person gave. It is published and stored among the others; a reader of `Labeled` need not
    know it.
    """

    drawn_by: Annotated[str | None, Column("LowCardinality(Nullable(String))")] = Field(
        default=None,
        description="Only on labels of people: the queue that the row came from, `audit`, `unsure`, `search` "
        "or `disagreements`.",
    )
    draw_probability: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=None,
        description="Only on labels of people: the probability with which the row was drawn, null where it "
        "was not drawn at random.",
    )


# The reason of a variant whose label is another than its row's.
LABEL_CHANGED = "label-changed"


class RejectedVariant(Part):
    """A variant that the checks refused, and why."""

    text: str
    reason: str


class Augmented(Labeled):
    """A labelled row and its variants."""

    message_type: ClassVar[str] = "augmented"
    made_by: ClassVar[str] = "augment"
    schema_version: ClassVar[str] = "1.2"

    variants: list[str] = Field(default_factory=list, description="Rewordings that passed the checks.")
    rejected: list[RejectedVariant] = Field(
        default_factory=list, description="Rewordings that did not, with the reason."
    )
    augment_model: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="The augmenting model's name."
    )
    augmented_at: Moment = Field(description="When the variants were written, UTC.")
    verify_calls: Annotated[int | None, Column("Nullable(UInt16)")] = Field(
        default=None,
        ge=0,
        description="Calls that it took to label the variants again, and reject those with another label; "
        "null where they were not verified (`AUGMENT_VERIFY`).",
    )


class DeadLetter(BaseModel):
    """A message that could not be processed, as ``dead_letters`` stores it.

    On the topic the value is ``payload``, byte for byte, and the other fields are headers.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    row_id: str = Field(default="", description="The row, where the message could be read that far.")
    step: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="Which step gave it up: poll, mask, label, augment or store."
    )
    reason: Annotated[str, Column("LowCardinality(String)")] = Field(
        description="A short, countable reason, such as `undecodable`."
    )
    error: str = Field(default="", description="What exactly was wrong, for a person.")
    attempts: int = Field(default=1, ge=0, description="How often it was tried.")
    failed_at: Moment = Field(description="When it was given up, UTC.")
    topic: Annotated[str, Column("LowCardinality(String)")] = Field(
        default="", description="Origin: the topic that it was read from."
    )
    partition: Annotated[int, Column("Int32")] = Field(default=-1, description="Origin: the partition.")
    offset: int = Field(default=-1, description="Origin: the offset.")
    payload: bytes = Field(
        default=b"",
        description="The received bytes, unchanged. Empty where they are too large for the topic, or hold "
        "personal data that cannot be masked: then the origin or the error says where they are.",
    )


MESSAGES: tuple[type[Row], ...] = (Row, Labeled, Augmented)
