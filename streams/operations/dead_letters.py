"""`labelstream dead-letters`: lists dead letters, and retries them.

A message that a step rejected goes to the replay topic, where live rows have priority. A row that the table
refused is inserted again. Each retry carries the name of its dead letter, so a row is published once, however
often the retry is requested and whatever process dies in between.
"""

from __future__ import annotations

import base64
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.erasure.erased_list import Erased, ErasedRows, nothing_erased
from connectors.clickhouse.poller.backfill import OldRows
from connectors.clickhouse.poller.row_identity import CONTENT
from connectors.clickhouse.poller.settled_rows import PassingRows
from connectors.clickhouse.queries.dead_letters import count_letters, list_letters
from connectors.clickhouse.queries.open_dead_letters import (
    OpenLetter,
    open_letters,
    resolved_letters,
    store_again,
)
from connectors.clickhouse.schema.tables import DEAD_LETTERS
from connectors.files.rows import ROW_ID
from connectors.kafka.admin import Admin
from connectors.kafka.connection import connection
from connectors.kafka.producer import LeasedProducer
from connectors.kafka.tail import TailReader
from streams.core.codec import (
    CREATED_AT,
    LABEL_VERSION,
    REPLAY_JOB,
    RETRY_OF,
    TO,
    Headers,
    decode,
    encode,
    headers_of,
)
from streams.core.errors import PermanentError, RefusedError, UndecodableError
from streams.core.messages import Augmented, DeadLetter, HumanLabel, Row
from streams.core.records import Outgoing, Record
from streams.core.settings import Settings
from streams.core.times import micros_of
from streams.core.topics import Topics, partition_of
from streams.observability.publish_spans import PublishSpans, watch_one
from streams.observability.tracer import Tracer
from streams.privacy.door import STEP as MASK
from streams.privacy.door import Door, opened
from streams.runtime.secret import verify_secret
from streams.runtime.tracing import traced

_AT_ONCE = 500


async def list_dead_letters(
    settings: Settings, *, reason: str | None, step: str | None, since: datetime | None, limit: int
) -> dict[str, Any]:
    """The newest dead letters, and their numbers by step and reason."""
    async with ClickHouseClient.from_settings(settings) as client:
        letters = await list_letters(client, settings, reason=reason, step=step, since=since, limit=limit)
        resolved = await resolved_letters(client, settings, letters)
        counts = await count_letters(client, settings, reason=reason, step=step, since=since)
    return {
        "total": sum(counts.values()),
        "counts": [{"step": s, "reason": r, "count": count} for (s, r), count in counts.items()],
        "dead_letters": [
            _shown(letter) | {"resolved": done} for letter, done in zip(letters, resolved, strict=True)
        ],
    }


async def retry_dead_letters(
    settings: Settings,
    *,
    reason: str | None,
    step: str | None,
    since: datetime | None,
    limit: int,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Any]:
    """Retry the open dead letters. Returns how many were `retried`, `stored`, and `left` with the reason.

    ``report`` is called with the number that is done.

    Raises:
        UnavailableError, AccessError, ConfigurationError: call again; nothing is published twice.
    """
    done = 0
    async with _retrying(settings) as (client, retry):
        pages = open_letters(client, settings, reason=reason, step=step, since=since, limit=limit)
        async with contextlib.aclosing(pages):
            async for letters in pages:
                for start in range(0, len(letters), _AT_ONCE):
                    some = letters[start : start + _AT_ONCE]
                    await retry.some(some)
                    done += len(some)
                    report(done)
    return {
        "open": done,
        "retried": retry.counts["retried"],
        "stored": retry.counts["stored"],
        "left": dict(retry.left),
    }


def letter_id(shown: dict[str, Any]) -> str:
    """The name of a dead letter that `list_dead_letters` returned: its origin, and when it failed."""
    return f"{shown['topic']}/{shown['partition']}/{shown['offset']}/{shown['failed_at']}"


async def retry_letter(settings: Settings, name: str) -> dict[str, Any]:
    """Retry one dead letter, if it is still open; ``name`` as from `letter_id`.

    Raises:
        RefusedError: there is no such dead letter (`not-found`), or its row was processed since (`conflict`).
        UnavailableError, AccessError, ConfigurationError: as `retry_dead_letters`.
    """
    origin, _, at = name.rpartition("/")
    try:
        failed_at = datetime.fromisoformat(at)
    except ValueError:
        raise RefusedError("there is no such dead letter", reason="not-found") from None
    if failed_at.tzinfo is None:
        raise RefusedError("there is no such dead letter", reason="not-found")
    async with _retrying(settings) as (client, retry):
        there = await list_letters(client, settings, at=failed_at, limit=_AT_ONCE)
        if not any(_origin(one) == origin for one in there):
            raise RefusedError("there is no such dead letter", reason="not-found")
        wanted = [
            one
            async for some in open_letters(client, settings, at=failed_at, limit=_AT_ONCE)
            for one in some
            if _origin(one.letter) == origin
        ]
        if not wanted:
            raise RefusedError("its row has come through since", reason="conflict")
        await retry.some(wanted)
    return {"retried": retry.counts["retried"], "stored": retry.counts["stored"], "left": dict(retry.left)}


def _origin(letter: DeadLetter) -> str:
    return f"{letter.topic}/{letter.partition}/{letter.offset}"


@contextlib.asynccontextmanager
async def _retrying(settings: Settings) -> AsyncIterator[tuple[ClickHouseClient, _Retry]]:
    await verify_secret(settings)
    producer = LeasedProducer(connection(settings))
    async with (
        ClickHouseClient.from_settings(settings) as client,
        opened(settings) as door,
        traced(settings, "retry") as tracer,
    ):
        try:
            yield client, _Retry(settings, client, producer, door, ErasedRows(client, settings).now, tracer)
        finally:
            await producer.stop()


class _Retry:
    def __init__(
        self,
        settings: Settings,
        client: ClickHouseClient,
        producer: LeasedProducer,
        door: Door | None,
        erased: Erased = nothing_erased,
        tracer: Tracer | None = None,
    ) -> None:
        self._door = door
        self._erased = erased
        self.counts: Counter[str] = Counter()
        self.left: Counter[str] = Counter()
        self._settings = settings
        self._client = client
        self._producer = producer
        self._topics = topics = Topics(settings.topic_prefix)
        self._admin = Admin(connection(settings))
        self._tail = TailReader(connection(settings))
        self._spans: PublishSpans | None = None
        if tracer is not None:
            self._spans = PublishSpans(tracer, "retry", DEAD_LETTERS, topics.dead_letter, again=True)

    async def some(self, letters: list[OpenLetter]) -> None:
        outgoing, unmasked = [], []
        for one in letters:
            letter = await self._whole(one.letter)
            if letter is None:
                self.left["its bytes are gone: the topic no longer holds them"] += 1
            elif letter.step == MASK:
                unmasked.append(one)
            elif letter.step == "poll":
                self.left["too large for the topic: shorten the text in the source table"] += 1
            elif (safe := await self._shielded(letter)) is None:
                continue
            elif letter.step == "store":
                await self._store(safe)
            else:
                outgoing.append(self._message(safe, one.name, await self._way(one)))
        outgoing += await self._masked(unmasked)
        if outgoing:
            await self._send(outgoing)
            self.counts["retried"] += len(outgoing)

    async def _send(self, outgoing: list[Outgoing]) -> None:
        if self._spans is None:
            await self._producer.send_many(outgoing)
            return
        page = self._spans.page()
        watched = [watch_one(page, message) for message in outgoing]
        page.handed_over(len(outgoing))
        offsets = await self._producer.send_many([message for message, _ in watched])
        for (_, one), offset in zip(watched, offsets, strict=True):
            one.confirmed([(offset, 1)])

    async def _whole(self, letter: DeadLetter) -> DeadLetter | None:
        """The dead letter with its bytes; if it is kept by reference, they are read from the topic that it
        names.
        """
        if letter.payload or letter.step in ("poll", MASK) or letter.reason == "no-value":
            return letter
        async for records in self._tail.read(letter.topic, letter.partition, letter.offset):
            for record in records:
                if record.offset == letter.offset:
                    return letter.model_copy(update={"payload": record.value or b""})
                return None
        return None

    async def _shielded(self, letter: DeadLetter) -> DeadLetter | None:
        """The letter with a masked message, which may be older than masking. None if that cannot be, or its
        row was erased: it is counted as left.
        """
        try:
            message = decode(_kind_of(letter), letter.payload)
        except UndecodableError:
            if self._door is None:
                return letter
            self.left["it cannot be read, so its personal data cannot be masked"] += 1
            return None
        # By the plain ids: the list may be older than the secret.
        erased = await self._erased()
        if erased.covers(message.row_id, message.user_id, micros_of(message.created_at)):
            self.left["its row was erased"] += 1
            return None
        if self._door is None:
            return letter
        (safe,) = await self._door.rows([message], from_source=False)
        if isinstance(safe, Augmented):
            safe = await self._with_masked_variants(self._door, safe)
        if safe is None:
            self.left["its personal data cannot be masked"] += 1
            return None
        return letter if safe == message else letter.model_copy(update={"payload": encode(safe)})

    async def _with_masked_variants(self, door: Door, message: Augmented) -> Augmented | None:
        written = [*message.variants, *(one.text for one in message.rejected)]
        masked = [text for text in await door.texts(written) if text is not None]
        if len(masked) < len(written):
            return None
        kept = len(message.variants)
        rejected = [
            one.model_copy(update={"text": text})
            for one, text in zip(message.rejected, masked[kept:], strict=True)
        ]
        return message.model_copy(update={"variants": masked[:kept], "rejected": rejected})

    async def _masked(self, letters: Sequence[OpenLetter]) -> list[Outgoing]:
        """Messages of rows that could not be masked, read from the source again and masked by now."""
        by_time: dict[int, dict[str, tuple[OpenLetter, Record]]] = {}
        for one in letters:
            record = await self._record(one)
            at = record.header(CREATED_AT) if record is not None else None
            if record is None or at is None or one.letter.row_id.startswith(f"{ROW_ID}:"):
                self.left["it is in an uploaded file, or its message is gone: upload the file again"] += 1
                continue
            micros = micros_of(datetime.fromisoformat(at.decode()))
            by_time.setdefault(micros, {})[one.letter.row_id] = one, record
        return [message for micros, some in by_time.items() for message in await self._read(micros, some)]

    async def _read(self, micros: int, letters: dict[str, tuple[OpenLetter, Record]]) -> list[Outgoing]:
        """``letters``, by row id, of rows of one time: for them the look-back window is read once."""
        old = OldRows(
            self._client,
            self._settings,
            self._topics,
            since=micros,
            until=micros + 1,
            door=self._door,
            only=letters,
        )
        found = []
        async for rows, _, _ in old.pages(None, PassingRows(any_text=True)):
            for row, mark, _, others in rows:
                for one, record in [letters.pop(id_) for id_ in (row.row_id, *others) if id_ in letters]:
                    partition = partition_of(row.text, self._settings.topic_partitions)
                    headers = [*headers_of(row), (CONTENT, mark), *_way(record)]
                    headers.append((RETRY_OF, one.name.encode()))
                    key = row.row_id.encode()
                    found.append(Outgoing(self._topics.replay, partition, key, encode(row), headers))
        if letters:
            why = "it cannot be masked again, or its row is no longer in the source table"
            self.left[why] += len(letters)
        return found

    async def _store(self, letter: DeadLetter) -> None:
        try:
            topic_id = await self._admin.topic_id(letter.topic)
            await store_again(self._client, self._settings, letter, topic_id)
            self.counts["stored"] += 1
        except PermanentError as error:
            self.left[f"the table refuses it again: {error.reason}"] += 1

    async def _way(self, one: OpenLetter) -> list[tuple[str, bytes]]:
        """Headers for the version, the replay and the target of a dead letter from a replay."""
        if one.letter.topic != self._topics.replay:
            return []
        return _way(await self._record(one))

    async def _record(self, one: OpenLetter) -> Record | None:
        """The letter's own message, if the topic still holds it."""
        async for records in self._tail.read(self._topics.dead_letter, one.partition, one.offset):
            for record in records:
                return record if record.offset == one.offset else None
        return None

    def _message(self, letter: DeadLetter, name: str, way: list[tuple[str, bytes]]) -> Outgoing:
        """A message to the partition where the row's label is, or will be, published."""
        retry_of = (RETRY_OF, name.encode())
        try:
            message = decode(_kind_of(letter), letter.payload)
        except UndecodableError:
            key = letter.row_id.encode() or None
            return Outgoing(
                self._topics.replay, max(0, letter.partition), key, letter.payload, [*way, retry_of]
            )
        partition = partition_of(message.text, self._settings.topic_partitions)
        return Outgoing(
            self._topics.replay,
            partition,
            message.row_id.encode(),
            letter.payload,
            [*headers_of(message), *way, retry_of],
        )


def _way(record: Record | None) -> Headers:
    """The headers of a dead letter's message that say for which replay its row is."""
    if record is None or record.header(REPLAY_JOB) is None:
        return []
    names = (LABEL_VERSION, REPLAY_JOB, TO) if record.header(TO) is not None else (REPLAY_JOB,)
    return [(name, record.header(name) or b"") for name in names]


def _kind_of(letter: DeadLetter) -> type[Row]:
    """What its bytes should be."""
    if letter.step == "store":
        return Augmented if letter.topic.endswith(".augmented") else HumanLabel
    return HumanLabel if letter.step == "augment" else Row


def _shown(letter: DeadLetter) -> dict[str, Any]:
    values = letter.model_dump(mode="python", exclude={"payload"})
    try:
        payload: dict[str, str] = {"payload": letter.payload.decode("utf-8")}
    except UnicodeDecodeError:
        payload = {"payload_base64": base64.b64encode(letter.payload).decode()}
    return {**values, "failed_at": letter.failed_at.isoformat(), **payload}
