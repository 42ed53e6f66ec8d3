"""Route: let the certified proxy of a label version label the texts that it is sure of, and the model the
rest.

Texts that wait at once are decided together, which costs a fraction of deciding them one by one. Nobody
waits for others: a pass takes what has come since the last one.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import structlog

from agents.proxy.audited import is_audited
from streams.core.cascade import CascadeState, Decision, ProxyRef
from streams.core.errors import UndecodableError

if TYPE_CHECKING:
    from agents.proxy.classifier import Proxy, ProxyDecision

log = structlog.get_logger()

# Decided in one pass: some milliseconds, in which nothing else of the process goes on.
_AT_ONCE = 64


class Routed(NamedTuple):
    """What is done with a text, and what the proxy of that ``generation`` says to it; ``score``: 0 to 1."""

    decision: Decision
    label: str
    score: float
    generation: int


def decision_of(state: CascadeState, text: str, said: ProxyDecision) -> Decision:
    """Who labels ``text``, of which the certified proxy of ``state`` has ``said`` that."""
    if not said.known:
        return "novel"
    if said.label in state.vetoed:
        return "vetoed"
    if state.threshold is None or said.score < state.threshold:
        return "unsure"
    return "audit" if is_audited(state.version, text, state.audit_rate) else "proxy"


class Router:
    """Routes the texts of one label version. ``counts``: of texts by what became of them, one of `Decision`
    or `cache`, which the label step adds.
    """

    def __init__(
        self,
        state: Callable[[], CascadeState | None],
        packed: Callable[[], tuple[int, bytes] | None],
        *,
        on: bool,
        counts: Counter[str],
    ) -> None:
        """``state``: the newest one of the version's cascade. ``packed``: generation and bytes of its proxy,
        None while they are not there. ``on``: else texts are only counted, and the model labels all.
        """
        self.counts = counts
        self._state = state
        self._packed = packed
        self._on = on
        self._waiting: list[tuple[str, asyncio.Future[Routed | None]]] = []
        self._loaded: ProxyRef | None = None
        self._proxy: Proxy | None = None

    async def route(self, text: str) -> Routed | None:
        """What the proxy says to ``text``, if it is to label it; None: ask the model."""
        if self._certified() is None:
            self.counts["none"] += 1
            return None
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._decide_waiting)
        answer: asyncio.Future[Routed | None] = loop.create_future()
        self._waiting.append((text, answer))
        routed = await answer
        self.counts["none" if routed is None else routed.decision] += 1
        return routed if self._on and routed is not None and routed.decision == "proxy" else None

    def decide(self, texts: Sequence[str]) -> list[Routed | None]:
        """What the newest state makes of ``texts``; None of all: no proxy is certified."""
        certified = self._certified()
        if certified is None:
            return [None] * len(texts)
        state, proxy = certified
        return [
            Routed(decision_of(state, text, said), said.label, said.score, state.generation)
            for text, said in zip(texts, proxy.decide(texts), strict=True)
        ]

    def _decide_waiting(self) -> None:
        some, self._waiting = self._waiting[:_AT_ONCE], self._waiting[_AT_ONCE:]
        if self._waiting:
            asyncio.get_running_loop().call_soon(self._decide_waiting)
        some = [one for one in some if not one[1].done()]  # whose caller was cancelled
        if not some:
            return
        try:
            found = self.decide([text for text, _ in some])
        except Exception:
            # The model can label them; a fault of the proxy must hold up nothing.
            log.exception("proxy_failed", texts=len(some))
            self._proxy = None
            found = [None] * len(some)
        for (_, answer), routed in zip(some, found, strict=True):
            answer.set_result(routed)

    def _certified(self) -> tuple[CascadeState, Proxy] | None:
        """The newest state and its proxy, if it may label."""
        state = self._state()
        if state is None or not state.decides:
            return None
        if self._loaded != state.proxy:
            packed = self._packed()
            if packed is None:
                return None  # its parts are still coming
            self._loaded, self._proxy = state.proxy, _unpacked(packed[1], state)
        return None if self._proxy is None else (state, self._proxy)


def _unpacked(packed: bytes, state: CascadeState) -> Proxy | None:
    # Only here numpy is needed: workers without a proxy do without its 30 MB.
    from agents.proxy.classifier import Proxy

    try:
        proxy = Proxy.unpack(packed)
    except UndecodableError as error:
        log.error(
            "proxy_unusable", label_version=state.version, generation=state.generation, error=str(error)
        )
        return None
    log.info("proxy_in_use", label_version=state.version, generation=state.generation)
    return proxy
