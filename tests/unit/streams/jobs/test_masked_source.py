"""A job's rows are masked, whether they come from a file or were stored before masking was switched on."""

from __future__ import annotations

from datetime import UTC, datetime

from streams.core.codec import decode, decode_dead_letter, encode
from streams.core.environment import load
from streams.core.messages import Row
from streams.core.records import Outgoing, Record
from streams.core.topics import Topics, partition_of
from streams.jobs.job import Job, Jobs
from streams.jobs.masked_source import MaskedRows, without_plain_ids
from streams.jobs.sources import Item, item_of
from streams.privacy.pseudonyms import is_pseudonym
from tests.unit.streams.privacy.fakes import SECRET, UNMASKABLE, make_door

AT = datetime(2026, 1, 1, tzinfo=UTC)
PSEUDONYM = "p1:" + "0" * 32


def row(row_id: str, text: str, user: str | None = None) -> Row:
    return Row(row_id=row_id, text=text, created_at=AT, user_id=user, polled_at=AT)


async def masked(*rows: Row, job: Job | None = None) -> tuple[list[Item], list[Outgoing]]:
    mask = MaskedRows(make_door(), job or Job(source="topic"), Topics("t"), 4, where="here")
    return await mask([item_of(one, 0, encode(one)) for one in rows])


async def test_what_was_stored_is_masked_once() -> None:
    stored = row("2", "мой [ТЕЛЕФОН]", PSEUDONYM)
    (first, second), _ = await masked(row("1", "мой +7 916 123-45-67", "79161234567"), stored)
    message = decode(Row, first.value)
    assert (message.text, first.text) == ("мой [ТЕЛЕФОН]", "мой [ТЕЛЕФОН]")
    assert first.partition == partition_of("мой [ТЕЛЕФОН]", 4)
    assert is_pseudonym(message.user_id or "")
    assert second.value == encode(stored)


async def test_a_row_that_cannot_be_masked_is_named_and_not_shown() -> None:
    job = Job(source="topic", version="v2")
    items, (message,) = await masked(row("1", f"вот {UNMASKABLE}"), row("2", "вопрос"), job=job)
    assert [item.row_id for item in items] == ["2"]
    letter = decode_dead_letter(message.value, message.headers)
    assert (letter.step, letter.reason, letter.row_id) == ("mask", "cannot-mask", "1")
    assert "here" in letter.error
    assert UNMASKABLE.encode() not in b"".join(value for _, value in message.headers) + (message.value or b"")
    headers = dict(message.headers)
    assert (headers["label-version"], headers["to"], headers["replay-job"]) == (
        b"v2",
        b"shadow",
        job.id.encode(),
    )


def test_jobs_of_before_forget_the_plain_users_when_they_are_over() -> None:
    settings = load({"PRIVACY": "mask", "PRIVACY_SECRET": SECRET}, None)
    jobs, topics = Jobs(), Topics("t")
    done = Job(id="a", source="table", done=True, where=["user=79161234567", "confidence<0.5"])
    for job in (done, done.model_copy(update={"id": "b", "done": False})):
        jobs.learn(Record("t.cursor", 0, 0, 0, f"job/{job.id}".encode(), job.message(topics).value))
    written, asked = without_plain_ids(jobs, settings, topics)
    assert (written.key, asked.key, asked.value) == (b"job/a", b"job/a/asked", None)
    assert b"79161234567" not in (written.value or b"")
    jobs.learn(Record("t.cursor", 0, 1, 0, written.key, written.value))
    assert jobs.named("a").where[1] == "confidence<0.5"
    assert without_plain_ids(jobs, settings, topics) == []
    assert without_plain_ids(jobs, load({}, None), topics) == []
