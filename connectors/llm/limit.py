"""The limit for one endpoint: who may send now, who waits, and when nobody may send.

`pace.py` decides how many requests may be in flight; this module assigns the slots. Live work goes before
replays, which `behind.py` delays a little. While the endpoint is away the limit is zero: callers wait here,
and it is probed every two seconds. `endpoint.py` decides when it is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NamedTuple

import structlog

from connectors.llm.behind import Behind
from connectors.llm.pace import Pace
from streams.core.background import apart, in_background
from streams.core.context import REPLAY, of_no_row
from streams.core.errors import (
    ConfigurationError,
    LabelstreamError,
    OverloadedError,
)

log = structlog.get_logger()

_PROBE_SECONDS = 2.0
_FIRST_PROBE_SECONDS = 0.3
_LOAD_SECONDS = 1.0
_TICK_SECONDS = 0.1
# One slot in so many goes to a replay although live work waits, so that no replay starves: a live message may
# wait for a replay's call for the same text.
_REPLAY_SHARE = 20


class Load(NamedTuple):
    """The endpoint's own figures: requests that run there, and that wait there."""

    running: float
    waiting: float


@dataclass(frozen=True)
class LimitState:
    """For metrics and `status`. ``reason``: why the limit was last changed, or why nothing is sent."""

    limit: int
    in_flight: int
    waiting: int
    waiting_replay: int
    available: bool
    reason: str
    endpoint_waiting: float | None


# Has the limit that granted it as its result, which by then counts it as in flight.
Turn = asyncio.Future["Limit"]


class Limit:
    """Slots at one endpoint. ``enter`` takes one; ``answered``, ``failed`` or ``left`` returns it."""

    def __init__(
        self,
        most: int,
        *,
        setting: str = "",
        name: str | None = None,
        probe: Callable[[], Awaitable[bool]],
        load: Callable[[], Awaitable[Load | None]],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """``most``: maximum number of slots. ``setting``, and ``name`` if there are several, name the
        endpoint in the log. ``probe``: whether it
        answers again; ``load``: None if it reports no figures.
        """
        self.pace = Pace(most)
        self.in_flight = 0
        self._behind = Behind(self.pace, clock, self._hand_out)
        self._setting = setting
        self._name = name
        self._probe = probe
        self._load = load
        self._clock = clock
        self._sleep = sleep
        self._live: deque[Turn] = deque()
        self._replay: deque[Turn] = deque()
        self._turn = 0
        self._back = asyncio.Event()
        self._away: LabelstreamError | None = None
        self._away_since = 0.0
        self._endpoint: Load | None = None
        self._watching: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._reopening: asyncio.Task[None] | None = None

    @property
    def load(self) -> float:
        """What runs for us, and what waits at the endpoint as it says, for each slot."""
        waiting = self._endpoint.waiting if self._endpoint is not None else 0.0
        return (self.in_flight + waiting) / self.pace.limit

    @property
    def available(self) -> bool:
        """False while the endpoint is down, or refuses everybody."""
        return self._away is None

    @property
    def away(self) -> LabelstreamError | None:
        """Why the endpoint is not available; None if it is."""
        return self._away

    def state(self) -> LimitState:
        """A snapshot, from whatever thread: metrics are asked for in one of their own."""
        return LimitState(
            limit=self.pace.limit if self._away is None else 0,
            in_flight=self.in_flight,
            waiting=sum(not turn.done() for turn in self._live.copy()),
            waiting_replay=sum(not turn.done() for turn in self._replay.copy()),
            available=self._away is None,
            reason=self.pace.reason if self._away is None else str(self._away),
            endpoint_waiting=self._endpoint.waiting if self._endpoint else None,
        )

    # --- slots ---

    async def enter(self, *, urgent: bool = False) -> None:
        """Take a slot; waits for one. If it is cancelled while waiting, it takes none. ``urgent``: before all
        others.
        """
        turn: Turn = asyncio.get_running_loop().create_future()
        self.queue(turn, urgent=urgent)
        await granted(turn)

    def queue(self, turn: Turn, *, urgent: bool = False) -> None:
        """Let ``turn`` wait for a slot. It may wait at several limits: the first with a slot grants it."""
        if self._watching is None:
            self._watching = apart(self._watch())
        replay = REPLAY.get()
        if not replay:
            self._behind.live_came()
        self._forget_the_granted()
        if urgent:
            self._live.appendleft(turn)
        else:
            (self._replay if replay else self._live).append(turn)
        self._hand_out()

    def _forget_the_granted(self) -> None:
        """Turns that another limit granted, or that were cancelled; they come in about the same order."""
        for waiting in (self._live, self._replay):
            while waiting and waiting[0].done():
                waiting.popleft()

    def answered(self, started: float, tokens: int) -> None:
        """The endpoint answered a request, sent at ``started`` (of the clock), with so many tokens."""
        full = self._full
        if self._away is not None and started >= self._away_since:
            self._return()
        self.pace.answered(self._clock(), started, tokens, full)
        self.left()

    def failed(self, error: LabelstreamError, *, late: bool = False) -> None:
        """A request failed with one of our errors, and its text is not the reason, as far as is known;
        ``late``: because no answer came in time.
        """
        now = self._clock()
        if isinstance(error, OverloadedError):
            self.pace.refused(now, self.in_flight - 1)
        elif late:
            self.pace.late(now)
        self.left()

    @property
    def _full(self) -> bool:
        """Whether every slot that may be used is taken; waiting replays do not count as a sign of it."""
        self._forget_the_granted()
        return bool(self._live) or self.in_flight >= 0.9 * self._behind.limit

    def left(self) -> None:
        """Return a slot without any result: the caller was cancelled."""
        self.in_flight -= 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._away is None and self.in_flight < self.pace.limit and self._admit_one():
            pass

    def _admit_one(self) -> bool:
        while self._live or self._replay:
            if not (self._live or self._behind.may_go(self.in_flight)):
                return False
            self._turn += 1
            replay = not self._live or (bool(self._replay) and self._turn % _REPLAY_SHARE == 0)
            turn = (self._replay if replay else self._live).popleft()
            if not turn.done():
                if replay:
                    self._behind.went()
                turn.set_result(self)
                self.in_flight += 1
                return True
        return False

    # --- outages ---

    async def rest(self, seconds: float) -> None:
        """Wait for so long, or until the endpoint is back from an outage."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._back.wait()

    def leave(self, error: LabelstreamError) -> None:
        """Send nothing until the endpoint answers a probe; ``error`` says why. Each new reason is logged."""
        before, self._away = self._away, error
        if before is None:
            self._away_since = self._clock()
        setting = getattr(error, "setting", "") or self._setting
        if before is None or _cause(before) != _cause(error):
            of_no_row(
                log.warning,
                "the endpoint is away, nothing is sent to it"
                if not isinstance(error, ConfigurationError)
                else "the endpoint refuses every request, nothing is sent to it",
                reason=str(error),
                endpoint=self._name,
                setting=setting,
                fix=getattr(error, "fix", "") or None,
            )
        if self._reopening is None or self._reopening.done():
            self._reopening = apart(self._reopen())

    def _return(self) -> None:
        now = self._clock()
        of_no_row(
            log.info, "the endpoint is back", endpoint=self._name, seconds=round(now - self._away_since, 1)
        )
        self._away = None
        self._back.set()
        self._back = asyncio.Event()
        self.pace.returned(now)
        self._hand_out()

    async def _reopen(self) -> None:
        pause = _FIRST_PROBE_SECONDS
        while self._away is not None:
            await self._sleep(pause * random.uniform(0.8, 1.2))
            pause = _PROBE_SECONDS
            if self._away is not None and await self._probed() and self._away is not None:
                self._return()

    async def _probed(self) -> bool:
        try:
            return await self._probe()
        except Exception:  # whatever it is: otherwise nobody would ever call the endpoint again
            log.exception("endpoint_not_probed")
            return False

    # --- the endpoint's own figures ---

    async def _watch(self) -> None:
        idle, ticks = 0, 0
        try:
            while idle < 20:
                began = self._clock()
                await self._sleep(_TICK_SECONDS)
                late = max(0.0, self._clock() - began - _TICK_SECONDS)
                self.pace.lag += 0.2 * (late - self.pace.lag)
                self._forget_the_granted()
                idle = 0 if self.in_flight or self._live or self._replay else idle + 1
                if self.in_flight and ticks <= 0 and (self._asking is None or self._asking.done()):
                    ticks = round(_LOAD_SECONDS / _TICK_SECONDS)
                    self._asking = in_background(self._ask(), "ask the endpoint for its load")
                ticks -= 1
        finally:
            self._watching = None

    async def _ask(self) -> None:
        self._endpoint = found = await self._load()
        if found is not None:
            self.pace.told(self._clock(), found.running, found.waiting, self.in_flight, self._full)
            self._hand_out()

    async def close(self) -> None:
        """Stop watching."""
        self._behind.close()
        tasks = [task for task in (self._watching, self._asking, self._reopening) if task is not None]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def granted(turn: Turn) -> Limit:
    """The limit that granted ``turn``. If it is cancelled while it waits, it takes no slot."""
    try:
        return turn.result() if turn.done() else await turn
    except asyncio.CancelledError:
        if turn.done() and not turn.cancelled():
            turn.result().left()  # the slot was assigned just as the caller was cancelled
        raise


def _cause(error: LabelstreamError) -> tuple[object, ...]:
    """Equal for errors that need no new line in the log."""
    return (type(error), getattr(error, "setting", ""), str(error)[:60])
