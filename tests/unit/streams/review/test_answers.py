"""What is published and stored of an answer, and of one that is taken back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from streams.core.codec import decode, encode, headers_of
from streams.core.errors import RefusedError
from streams.core.messages import Alternative, HumanLabel, Labeled
from streams.review.answers import answer_of, label_of, taken_back

AT = datetime(2026, 3, 1, tzinfo=UTC)
# Later than any clock: an answer is later than what was there before, whatever the clock says.
AHEAD = datetime(2100, 1, 1, tzinfo=UTC)
WAS = Labeled(
    row_id="1",
    text="text",
    created_at=AT,
    polled_at=AT,
    label="refund",
    confidence=0.4,
    alternatives=[Alternative(label="roads", confidence=0.3)],
    label_version="v1",
    model="m",
    labeled_at=AHEAD,
)


def test_a_label_says_who_gave_it_and_how_its_row_was_drawn() -> None:
    said = label_of(WAS, "anna", "roads", "audit", 0.01)
    assert (said.label, said.model, said.label_version) == ("roads", "human:anna", "human")
    assert (said.confidence, said.alternatives, said.decided_by) == (None, [], "human")
    assert (said.drawn_by, said.draw_probability) == ("audit", 0.01)
    assert said.labeled_at == AHEAD + timedelta(microseconds=1)
    assert decode(HumanLabel, encode(said)) == said
    # Whoever reads labels reads this one, and the messages of models have no more fields than before.
    assert decode(Labeled, encode(said)).label == "roads"
    assert dict(headers_of(said))["message-type"] == b"labeled"
    assert b"draw" not in encode(WAS)


def test_what_is_taken_back_leaves_the_label_of_the_model_or_of_others() -> None:
    said = label_of(WAS, "anna", "roads", "audit", 0.01)
    back = taken_back(WAS, said, "anna", "audit", None)
    assert (back.label, back.confidence, back.alternatives) == ("refund", 0.4, WAS.alternatives)
    assert (back.model, back.label_version, back.drawn_by) == ("human:anna:undo", "human", "audit")
    assert back.labeled_at > said.labeled_at
    calibrated = WAS.model_copy(update={"confidence_raw": 0.9, "calibration": 3})
    back = taken_back(calibrated, said, "anna", "audit", None)
    # A generation belongs to the model's version, and `human` has none.
    assert (back.confidence, back.confidence_raw, back.calibration) == (0.4, 0.9, None)
    others = taken_back(WAS, said, "anna", "audit", "login")
    assert (others.label, others.confidence, others.alternatives) == ("login", None, [])
    # What is shown again was not decided by a person.
    proxys = WAS.model_copy(update={"decided_by": "proxy", "proxy_generation": 2})
    assert (label_of(proxys, "anna", "roads", "audit", 0.01).proxy_generation, others.decided_by) == (
        *(None, "human"),
    )
    back = taken_back(proxys, said, "anna", "audit", None)
    assert (back.decided_by, back.proxy_generation) == ("proxy", 2)


def test_an_answer_without_a_label_has_the_row_with_it() -> None:
    told = answer_of(WAS, "anna", "not-sure", "unsure", None, after=AHEAD)
    assert (told.row_id, told.created_at, told.text, told.answer, told.who) == (
        *("1", AT, "text", "not-sure", "anna"),
    )
    assert (told.drawn_by, told.draw_probability) == ("unsure", None)
    assert told.answered_at > AHEAD


def test_a_row_that_another_tool_wrote_without_a_text_is_refused() -> None:
    with pytest.raises(RefusedError, match="cannot be published: text"):
        label_of(WAS.model_copy(update={"text": ""}), "anna", "roads", "audit", 0.01)
    assert (
        answer_of(WAS.model_copy(update={"text": ""}), "anna", "no-label", "audit", 0.01, after=AT).text == ""
    )
