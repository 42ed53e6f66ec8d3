"""Where the agents send a row, by its topic and headers."""

from __future__ import annotations

from streams.core.codec import LABEL_VERSION, MESSAGE_TYPE, TO
from streams.core.outcomes import Retry
from streams.core.records import Record
from streams.core.topics import Topics
from streams.pipeline.topology import agents_flow

TOPICS = Topics("esk")


async def test_a_replayed_row_goes_where_its_headers_say() -> None:
    async def step(_: object) -> Retry:
        return Retry(1.0, "live")

    async def as_v2(_: object) -> Retry:
        return Retry(1.0, "v2")

    async def anew(_: object) -> Retry:
        return Retry(1.0, "anew")

    flow = agents_flow(
        TOPICS,
        label=step,
        label_version="v1",
        augment=step,
        label_as=lambda version: as_v2,
        model_as=lambda version: anew,
    )

    def way(topic: str, **headers: bytes) -> tuple[str, str, str | None]:
        named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
        route = flow.route(Record(topic, 0, 0, 0, b"1", b"", named))
        return route.name, route.output, route.version

    assert (LABEL_VERSION, MESSAGE_TYPE, TO) == ("label-version", "message-type", "to")
    assert way("esk.rows") == ("label", "esk.labeled", "v1")
    assert way("esk.rows", label_version=b"v2") == ("label", "esk.labeled", "v1")
    assert way("esk.replay") == ("label", "esk.labeled", "v1")
    assert way("esk.replay", label_version=b"v2") == ("label", "esk.labeled.shadow", "v2")
    assert way("esk.replay", label_version=b"v2", to=b"labeled") == ("label", "esk.labeled", "v2")
    assert way("esk.replay", message_type=b"labeled")[:2] == ("augment", "esk.augmented")
    other = flow.route(Record("esk.replay", 0, 0, 0, b"1", b"", (("label-version", b"v2"),)))
    own = flow.route(Record("esk.replay", 0, 0, 0, b"1", b"", (("label-version", b"v1"),)))
    assert (await other.step(None)).reason == "v2"
    assert (await own.step(None)).reason == "live"
    # Its label of the version is to be made anew, by no proxy; and what a topic had lost is labelled as ever.
    for recovered, reason in ((b"job", "anew"), (b"job-7", "live")):
        named = (("label-version", b"v1"), ("replay-job", b"job"), ("recovered", recovered))
        route = flow.route(Record("esk.replay", 0, 0, 0, b"1", b"", named))
        assert (await route.step(None)).reason == reason
    assert "esk.labeled.shadow" in flow.outputs
