"""decode(encode(x)) = x, and no bytes whatever crash a reader."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.core.codec import decode, decode_dead_letter, encode, encode_dead_letter
from streams.core.errors import UndecodableError
from streams.core.messages import Alternative, Augmented, DeadLetter, RejectedVariant, Row

times = st.datetimes(timezones=st.just(UTC), min_value=datetime(1971, 1, 1), max_value=datetime(2200, 1, 1))
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=50)
rows = st.builds(
    Row,
    row_id=texts,
    text=texts,
    created_at=times,
    user_id=st.none() | texts,
    session_id=st.none() | texts,
    source_domain=st.none() | texts,
    polled_at=times,
)


@given(rows)
def test_rows_survive_the_round_trip(row: Row) -> None:
    assert decode(Row, encode(row)) == row


@given(rows)
def test_a_message_made_of_checked_fields_is_as_a_validated_one(row: Row) -> None:
    more: dict[str, Any] = {
        "label": "login",
        "confidence": 0.5,
        "alternatives": [Alternative.made(label="roads", confidence=0.25)],
        "label_version": "v1",
        "model": "m",
        "labeled_at": row.polled_at,
        "cached": True,
        "confidence_raw": 0.9,
        "calibration": 1,
        "decided_by": "llm",
        "proxy_generation": None,
        "variants": ["a"],
        "rejected": [RejectedVariant.made(text="b", reason="same")],
        "augment_model": "n",
        "augmented_at": row.created_at,
        "verify_calls": 1,
    }
    made = Augmented.made(**row.__dict__, **more)
    checked = Augmented.model_validate(row.model_dump() | more)
    assert made == checked
    assert list(made.__dict__) == list(Augmented.model_fields)
    assert encode(made) == encode(checked) == orjson.dumps(checked.model_dump(), option=orjson.OPT_UTC_Z)
    assert decode(Augmented, encode(made)) == checked


@given(rows)
def test_a_newer_writer_does_not_break_an_older_reader(row: Row) -> None:
    assert decode(Row, encode(row).replace(b"{", b'{"a_later_field": [1],', 1)) == row


@given(st.binary(max_size=200) | st.none())
def test_any_bytes_are_decoded_or_refused(value: bytes | None) -> None:
    with pytest.raises(UndecodableError):
        decode(Augmented, value)


@given(st.binary(max_size=200), texts, st.integers(0, 9), times)
def test_dead_letters_keep_their_bytes(
    payload: bytes, error: str, attempts: int, failed_at: datetime
) -> None:
    letter = DeadLetter(
        row_id="1", step="label", reason="undecodable", error=error, attempts=attempts, failed_at=failed_at,
        topic="esk.rows", partition=3, offset=9, payload=payload,
    )  # fmt: skip
    assert decode_dead_letter(*encode_dead_letter(letter)) == letter


def test_times_are_rfc_3339_in_utc() -> None:
    row = Row(row_id="1", text="a", created_at="2026-01-01T03:00:00+03:00", polled_at=datetime.now(UTC))  # type: ignore[arg-type]
    assert b'"created_at":"2026-01-01T00:00:00Z"' in encode(row)
