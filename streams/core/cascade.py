"""A label version's cascade: which proxy labels the texts that it is sure of, and whether it may.

The trainer publishes it on the versions topic, so that all workers and replays use the same one. A proxy is
larger than a message may be, and comes in parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field

from streams.core.records import Outgoing
from streams.core.topics import Topics

CASCADE, PROXY, RESET = "cascade/", "proxy/", "cascade-reset/"
POSITIONS = "cascade-positions"
# A proxy in bytes, and a part of it: a message has headers and framing beside it.
PROXY_BYTES, PART_BYTES = 4_000_000, 800_000

Phase = Literal["learning", "certified", "revoked", "off"]
Against = Literal["people", "llm"]
# What becomes of a text that is to be labelled. All but `proxy` are the model's: `audit`, the proxy is sure,
# and it is seen whether they agree; `none`, no proxy is certified.
Decision = Literal["proxy", "audit", "unsure", "vetoed", "novel", "none"]


class ProxyRef(BaseModel):
    """The bytes of a ``generation``: their ``digest``, and in how many ``parts`` they came."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    generation: int = Field(ge=1)
    digest: str = Field(min_length=1)
    parts: int = Field(ge=1)

    @classmethod
    def of(cls, generation: int, packed: bytes) -> ProxyRef:
        """That of ``packed``.

        Raises:
            ValueError: it is larger than `PROXY_BYTES`, or empty.
        """
        if not 0 < len(packed) <= PROXY_BYTES:
            raise ValueError(f"a proxy of {len(packed)} bytes: 1 to {PROXY_BYTES} can be published")
        return cls(generation=generation, digest=digest_of(packed), parts=-(-len(packed) // PART_BYTES))

    def key(self, version: str, part: int) -> bytes:
        """Of a part on the versions topic. Another content has another key: compaction keeps both."""
        return f"{PROXY}{version}/{self.generation}/{self.digest}/{part}".encode()

    def messages(self, version: str, packed: bytes, topics: Topics) -> Iterator[Outgoing]:
        """``packed`` for the versions topic."""
        for part in range(self.parts):
            value = packed[part * PART_BYTES : (part + 1) * PART_BYTES]
            yield Outgoing(topics.versions, 0, self.key(version, part), value)

    def tombstones(self, version: str, topics: Topics) -> Iterator[Outgoing]:
        """What makes compaction forget the parts."""
        for part in range(self.parts):
            yield Outgoing(topics.versions, 0, self.key(version, part), None)


class CascadeState(BaseModel):
    """Where the cascade of a version stands. The newest message of a version counts.

    ``generation``: of the proxy that decides, or is learning; 0: there is none yet. ``proxy``: its bytes, and
    ``candidate``: those of the next generation, which collects its certificate while this one decides.
    ``threshold``: the least score, 0 to 1, with which the proxy labels. ``coverage``: the share of texts that
    it would label then. ``bound``: what the certificate promises, at most so much is lost against
    ``certified_against``. ``audit_rate``: the share of the proxy's texts that the LLM labels all the same.
    ``asked_twice``: texts that the LLM labelled again with the labels in another order, ``differed_twice`` of
    them otherwise. ``clean_until``: no loss was found in what the proxy labelled before. ``reset``: the last
    wish of a person to begin anew that was fulfilled. ``checkpoint``: the trainer's own, which nobody else
    reads.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: str = Field(min_length=1)
    state: Phase = "learning"
    generation: int = Field(default=0, ge=0)
    proxy: ProxyRef | None = None
    candidate: ProxyRef | None = None
    threshold: float | None = None
    vetoed: tuple[str, ...] = ()
    coverage: float | None = None
    certified_against: Against | None = None
    certified_at: datetime | None = None
    bound: float | None = None
    audit_rate: float = Field(default=1.0, ge=0, le=1)
    audits: int = 0
    delay_minutes: float | None = None
    taught: int = 0
    texts: int = 0
    routable: int = 0
    routed: int = 0
    asked_twice: int = 0
    differed_twice: int = 0
    clean_until: datetime | None = None
    revoked_at: datetime | None = None
    revoked_why: str = ""
    reset: str = ""
    at: datetime = Field(default_factory=lambda: datetime.now(UTC))
    checkpoint: dict[str, Any] = Field(default_factory=dict)

    @property
    def decides(self) -> bool:
        """Whether the proxy may label."""
        return self.state == "certified" and self.proxy is not None and self.threshold is not None

    @property
    def calls_saved(self) -> float | None:
        """The share of distinct texts that the LLM need not label, of those seen since the certificate; what
        is audited counts as asked. None: there were none.
        """
        return self.routable * (1 - self.audit_rate) / self.texts if self.texts else None

    @property
    def key(self) -> str:
        """Of the message on the versions topic."""
        return f"{CASCADE}{self.version}"

    def message(self, topics: Topics) -> Outgoing:
        """For the versions topic."""
        return Outgoing(topics.versions, 0, self.key.encode(), orjson.dumps(self.model_dump()))


def reset_message(topics: Topics, version: str, wish: str) -> Outgoing:
    """A person's wish that the cascade of ``version`` begins anew: at once nothing is labelled by its proxy.
    ``wish``: another text each time.
    """
    value = orjson.dumps({"wish": wish, "at": datetime.now(UTC)})
    return Outgoing(topics.versions, 0, f"{RESET}{version}".encode(), value)


def positions_message(topics: Topics, offsets: Mapping[str, Mapping[int, int]]) -> Outgoing:
    """Up to where the labels were read when all states that they changed were published. ``offsets``: by the
    topic's incarnation and partition, the next one.
    """
    value = orjson.dumps(offsets, option=orjson.OPT_NON_STR_KEYS)
    return Outgoing(topics.versions, 0, POSITIONS.encode(), value)


def digest_of(packed: bytes) -> str:
    """Of a proxy's bytes, 32 hexadecimal digits."""
    return blake2b(packed, digest_size=16).hexdigest()
