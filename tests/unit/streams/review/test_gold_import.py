"""Which labels of a file are published, and what is said of the others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from streams.core.errors import ConfigurationError
from streams.core.messages import Labeled
from streams.core.records import Outgoing
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import partition_of
from streams.ports.lookups import Place
from streams.ports.review import HumanAnswer, ReviewAnswer
from streams.privacy.door import Door
from streams.privacy.erasure import ErasedId, ErasureList, digests_of
from streams.privacy.pseudonyms import is_pseudonym
from streams.review import gold_import
from streams.review.gold_import import import_gold
from tests.unit.streams.privacy.fakes import UNMASKABLE, make_door

AT = datetime(2026, 3, 1, tzinfo=UTC)
PLACES = [Place(AT + timedelta(hours=number), str(number % 4)) for number in range(8)]


def answer(place: Place, label: str, who: str) -> HumanAnswer:
    return HumanAnswer(place.row_id, place.created_at, "text", None, "label", label, who, AT, None, None)


def current(place: Place) -> Labeled:
    return Labeled(
        row_id=place.row_id,
        text=f"text {PLACES.index(place)}",
        created_at=place.created_at,
        polled_at=place.created_at,
        label="tariff",
        confidence=0.4,
        confidence_raw=0.9,
        calibration=3,
        label_version="v1",
        model="m",
        labeled_at=datetime(2100, 1, 1, tzinfo=UTC),
    )


def _listed(*entries: ErasedId) -> Any:
    class Listed:
        def __init__(self, *_: Any) -> None: ...

        async def now(self) -> ErasureList:
            return ErasureList(entries)

    return Listed


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Outgoing]:
    """What is published, with tables that have PLACES and two labels of people."""
    published: list[Outgoing] = []

    class Producer:
        def __init__(self, _: Any) -> None: ...

        async def send_many(self, messages: Sequence[Outgoing]) -> None:
            published.extend(messages)

        async def stop(self) -> None: ...

    async def times_of(_: Any, __: Any, ids: Sequence[str]) -> list[Place]:
        return [place for place in PLACES if place.row_id in ids]

    async def first_of_texts(_: Any, __: Any, texts: Sequence[str]) -> dict[str, Place]:
        return {f"text {number}": place for number, place in enumerate(PLACES) if f"text {number}" in texts}

    async def current_of(_: Any, __: Any, places: Sequence[Place]) -> dict[Place, Labeled]:
        return {place: current(place) for place in places if place in PLACES}

    async def human_answers(_: Any, __: Any) -> Any:
        yield answer(PLACES[0], "refund", "anna")
        yield answer(PLACES[1], "refund", "import")
        yield answer(PLACES[1], "payment", "boris")
        yield answer(PLACES[4], "payment", "import")
        yield replace(answer(PLACES[5], "payment", "import"), drawn_by="audit", draw_probability=0.01)
        yield replace(answer(PLACES[7], "", "anna"), answer="no-label", label=None)

    for name, stand_in in (
        ("LeasedProducer", Producer),
        ("ErasedRows", _listed()),
        ("times_of", times_of),
        ("first_of_texts", first_of_texts),
        ("current_of", current_of),
        ("human_answers", human_answers),
    ):
        monkeypatch.setattr(gold_import, name, stand_in)
    return published


def gold(folder: Path, lines: str) -> tuple[Settings, Path]:
    (folder / "gold.csv").write_text(lines, "utf-8")
    settings = Settings(clickhouse_host="localhost", kafka_bootstrap_servers="localhost:1")
    return settings, folder / "gold.csv"


async def test_what_is_there_stays_and_the_rest_is_published_once(
    sent: list[Outgoing], tmp_path: Path
) -> None:
    settings, file = gold(
        tmp_path,
        "row_id,created_at,label\n"
        "0,2026-03-01T00:00:00Z,refund\n"  # another person has said so
        "1,2026-03-01T01:00:00Z,refund\n"  # said before, and corrected since
        "2,,delivery\n"  # the newest row of the id
        "2,2026-03-01T06:00:00Z,payment\n"  # the same row
        "3,,nonsense\n9,,delivery\n3,2026-03-01T09:00:00Z,delivery\n3,,\n",
    )
    found = await import_gold(settings, file, "import")
    assert (found.imported, found.unchanged, found.unlabeled) == (1, 2, 1)
    assert [(one.row, one.why) for one in found.refused] == [
        (5, "nonsense is no label of the taxonomy"),
        (4, "row 3 of the file says delivery"),
    ]
    assert [(one.row, one.name) for one in found.absent] == [(6, "9"), (7, "3")]
    orjson.dumps(found.as_dict())
    (message,) = sent
    assert (message.key, message.partition) == (b"2", partition_of("text 6", settings.topic_partitions))
    told = orjson.loads(message.value or b"")
    assert (told["label"], told["label_version"], told["model"]) == ("delivery", "human", "human:import")
    assert all(told.get(name) is None for name in ("confidence", "confidence_raw", "calibration", "drawn_by"))
    # Later than the label that it replaces, whatever the clocks say.
    assert told["labeled_at"] > "2100-01-01"


async def test_what_other_people_said_is_not_changed(
    sent: list[Outgoing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, file = gold(
        tmp_path,
        "text,label,draw_probability\n"
        "text 0,delivery,\n"
        "text 4,delivery,\n"  # this person's own, of a file too
        "text 5,delivery,\n"  # this person's own, but a blind one
        "text 6,delivery,0.25\n"
        "text 7,delivery,\n"
        "text 2,no-label,0.5\n",
    )
    stored: list[ReviewAnswer] = []

    async def write_answers(_: Any, __: Any, answers: Sequence[ReviewAnswer]) -> None:
        stored.extend(answers)

    monkeypatch.setattr(gold_import, "write_answers", write_answers)
    found = await import_gold(settings, file, "import")
    assert [(one.text, one.answer, one.who, one.draw_probability) for one in stored] == [
        ("text 2", "no-label", "import", 0.5)
    ]
    assert found.imported == 3
    assert [(one.name, one.why) for one in found.refused] == [
        ("text 0", "a person says refund"),
        ("text 5", "a person says payment"),
        ("text 7", "a person says no-label"),
    ]
    told = [orjson.loads(one.value or b"") for one in sent]
    assert [one["text"] for one in told] == ["text 4", "text 6"]
    assert [one.get("draw_probability") for one in told] == [None, 0.25]


async def test_texts_stand_for_their_first_row(sent: list[Outgoing], tmp_path: Path) -> None:
    settings, file = gold(tmp_path, "text,label\ntext 3,delivery\nunknown,delivery\n text  3,delivery\n")
    found = await import_gold(settings, file, "boris")
    assert (found.imported, [one.name for one in found.absent]) == (1, ["unknown"])
    assert [orjson.loads(one.value or b"")["model"] for one in sent] == ["human:boris"]


async def test_older_rows_are_masked_before_their_labels_are_published(
    sent: list[Outgoing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def opened(_: Settings) -> AsyncIterator[Door]:
        yield make_door()

    async def current_of(_: Any, __: Any, places: Sequence[Place]) -> dict[Place, Labeled]:
        plain = {"user_id": "79161234567", "text": "мой +7 916 123-45-67"}
        found = {one: current(one).model_copy(update=plain) for one in places}
        found[PLACES[7]] = current(PLACES[7]).model_copy(update={"text": UNMASKABLE})
        return found

    monkeypatch.setattr(gold_import, "opened", opened)
    monkeypatch.setattr(gold_import, "current_of", current_of)
    found = await import_gold(*gold(tmp_path, "row_id,label\n2,delivery\n3,delivery\n"), "import")
    assert [(one.name, one.why) for one in found.refused] == [("3", "the row cannot be masked")]
    (message,) = sent
    told = orjson.loads(message.value or b"")
    assert (told["text"], is_pseudonym(told["user_id"])) == ("мой [ТЕЛЕФОН]", True)
    assert message.partition == partition_of("мой [ТЕЛЕФОН]", Settings().topic_partitions)


@pytest.mark.parametrize("lines", ["row_id,label\n2,delivery\n3,delivery\n", "text,label\ntext 6,no-label\n"])
async def test_no_answer_brings_an_erased_row_back(
    lines: str, sent: list[Outgoing], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = f"salt:{'ab' * 16}"
    entry = ErasedId("row", digests_of("2", [key], None)[0], key, micros_of(AT + timedelta(days=1)))
    monkeypatch.setattr(gold_import, "ErasedRows", _listed(entry))
    found = await import_gold(*gold(tmp_path, lines), "import")
    assert [(one.row, one.why) for one in found.absent] == [(1, "the row was erased")]
    assert [message.key for message in sent] == [b"3"][: found.imported]


@pytest.mark.parametrize("who", ["", "human:anna", "a:undo", "a/b", "x" * 65])
async def test_a_name_is_one_that_messages_can_carry(who: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no name of a person"):
        await import_gold(*gold(tmp_path, "row_id,label\n1,delivery\n"), who)
