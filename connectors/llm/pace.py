"""Calculates how many requests an endpoint can take at a time, without sockets or tasks.

The level rises while there is room, and falls when requests queue at the endpoint or are refused. The
endpoint's own metrics tell how many requests wait there. Without them, the number is estimated from the
latency: with ``n`` in flight and answers that take ``r`` seconds per output token, where they take ``base``
without a queue, ``n * (1 - base / r)`` of them wait. The target is a small queue, so that no slot is idle.
"""

from __future__ import annotations

import math

_START = 2
# The cost of an answer is its output tokens and a constant part, worth about eight tokens.
_FIXED_TOKENS = 8
# No model with slots worth counting answers faster than this: then the latency is that of sockets and
# processes, ours included.
_FAST_BASE, _FAST_NOW = 0.03, 0.1
# A response passes the event loop about three times, and waits for it each time.
_LOOP_PASSES = 3.0
# While the level doubles: latency may rise by this factor before more requests in flight are no gain, or are
# a queue.
_STILL_FASTER, _AS_FAST = 1.5, 1.15
_FRESH_SECONDS = 3.0
_AS_FAST_LOOKED, _CHANGING, _JUMP = 1.05, 1.1, 1.3
_LOOK_SECONDS, _LOOK_LATENCIES = 8.0, 16.0
_MOST_ANSWERS = 400
_FIRST_HOLD, _LONGEST_HOLD = 2.0, 8.0


class Pace:
    """The level for one endpoint. Times are seconds of any monotonic clock."""

    def __init__(self, most: int) -> None:
        """``most``: the number of requests in flight that is never exceeded."""
        self.most = most
        self.reason = "start"
        self.lag = 0.0  # how late the event loop is, in seconds
        self._level = float(min(most, _START))
        self._served = self._level  # the level when it last answered
        self._step = self._level
        self._doubling = True
        self._base = math.inf  # seconds per token without a queue
        self._base_seconds = math.inf  # the same as the latency of a whole answer
        self._before = math.inf  # seconds per token at half of this level
        self._smooth = 0.0
        self._latency = 0.0
        self._jumped = False
        self._lowered_from: float | None = None  # while the base is measured again
        self._look_at = 0.0  # when the base should be measured again
        self._quiet = 0
        # Start of a series of decreases: its level, and a level with its latency.
        self._run: tuple[float, float, float] | None = None
        self._ceiling = math.inf  # a higher level was refused
        self._hold = _FIRST_HOLD
        self._hold_until = 0.0
        self._passing = False  # above a former ceiling, until an epoch passes without a refusal
        self._cut_at = -math.inf
        self._told_at = -math.inf
        self._told_waiting = 0.0
        self._restart(0.0)

    @property
    def limit(self) -> int:
        """Requests that may be in flight now; at least 1."""
        return max(1, min(self.most, int(self._level + 1e-9)))

    @property
    def latency(self) -> float:
        """Seconds that recent answers took; 0 while that is unknown."""
        return self._latency

    # --- events ---

    def answered(self, now: float, started: float, tokens: int, full: bool) -> None:
        """A request that was sent at ``started`` was answered; ``full``: every slot was taken."""
        self._served = self._level
        if started < self._since:
            return  # its latency comes from the queue of an earlier level
        seconds = now - started
        self._count += 1
        self._seconds += seconds
        units = max(tokens, 1) + _FIXED_TOKENS
        self._units += units
        self._squares[0] += seconds * seconds
        self._squares[1] += seconds * units
        self._squares[2] += units * units
        self._fulls += full
        if self._count >= self._enough:
            self._judge(now)

    def refused(self, now: float, accepted: int) -> None:
        """The endpoint had no room (429, 503); ``accepted`` others were in flight and not refused."""
        accepted = max(1, accepted)
        probed = self._passing
        fresh = now - self._cut_at > max(self._latency, 0.1)
        level = min(self._level, float(accepted))
        if fresh:
            level *= 0.98 if probed else 0.95
            self._cut_at = now
            self._hold = min(self._hold * 1.5, _LONGEST_HOLD) if probed else _FIRST_HOLD
        self._ceiling = float(accepted)
        self._hold_until = now + self._hold
        self._passing = False
        self._set(level, now, "refused: no room")
        self._grow_slowly()

    def late(self, now: float) -> None:
        """A request was not answered in time."""
        if now - self._cut_at > max(self._latency, 1.0):
            self._cut_at = now
            self._set(self._level * 0.7, now, "time-out")
            self._grow_slowly()

    def told(self, now: float, running: float, waiting: float, mine: int, full: bool) -> None:
        """The endpoint's own figures: what runs and waits there; ``mine`` of it was sent from here."""
        settled = now - self._since >= self._latency
        self._told_at, self._told_waiting = now, waiting
        if settled:
            share = min(1.0, mine / max(running + waiting, 1.0))
            self._act(now, waiting * share, full)

    def returned(self, now: float) -> None:
        """The endpoint is back after an outage: begin with half of what it served before."""
        self._ceiling, self._hold, self._passing = math.inf, _FIRST_HOLD, False
        self._set(self._served / 2, now, "back after an outage")
        self._run = None
        self._step = max(1.0, self._level / 2)

    # --- decisions ---

    def _judge(self, now: float) -> None:
        mean = self._seconds / self._count
        per_unit = self._seconds / self._units
        noise = self._noise(mean, per_unit)
        needed = min((noise / 0.02) ** 2, _MOST_ANSWERS)
        if self.lag:
            own = min(_LOOP_PASSES * self.lag, mean - min(mean, self._base_seconds))
            per_unit *= (mean - own) / mean
        self._latency = mean
        known = min(1.0, self._count / max(needed, 1.0))
        if self._lowered_from is not None:
            self._look_taken(per_unit, max(known, 0.2), noise / math.sqrt(self._count))
            level, self._lowered_from = self._lowered_from, None
            self._set(level, now, self.reason)
            return
        self._learn_base(per_unit, known, noise / math.sqrt(self._count))
        self._base_seconds = self._base * self._units / self._count
        full = 2 * self._fulls >= self._count
        near = known == 1.0 and abs(per_unit - self._smooth) < 0.15 * self._smooth
        self._jumped = per_unit > _JUMP * self._smooth
        self._smooth = per_unit = (0.5 * self._smooth + 0.5 * per_unit) if near else per_unit
        queue = self.limit * (1 - self._base / per_unit) if per_unit > self._base else 0.0
        if mean < _FAST_NOW and self._base_seconds < _FAST_BASE:
            queue = 0.0
        if self._doubling:
            if per_unit < (_STILL_FASTER + 2 * noise / math.sqrt(self._count)) * self._before:
                queue = 0.0  # twice as many in flight brought many more answers a second
            if self._base < per_unit < _AS_FAST * self._before:
                # A larger batch is a little slower, and that is no queue.
                self._base += min(1.0, 2 * known) * (per_unit - self._base)
            self._before = per_unit
        told = now - self._told_at < _FRESH_SECONDS and not self._doubling
        if told and (self._told_waiting or queue >= self._least_queued or not full):
            self._restart(now)  # the endpoint's own figures decide
            return
        error = self.limit * noise / math.sqrt(self._count)
        if known < 1.0 and max(self._least_queued - error, 0.0) < queue < self._most_queued + error:
            self._enough = self._count + max(8, self._count // 4)  # too few answers to decide
            return
        if queue > self._most_queued and self._slower(now, per_unit):
            return
        self._act(now, queue, full, per_unit)

    def _noise(self, mean: float, per_unit: float) -> float:
        """The variation of the latency that the tokens do not explain, as a share of its mean."""
        seconds, product, units = self._squares
        variance = (seconds - 2 * per_unit * product + per_unit**2 * units) / self._count
        return math.sqrt(max(0.0, variance)) / mean

    def _learn_base(self, per_unit: float, known: float, error: float) -> None:
        if math.isinf(self._base):
            self._base = per_unit
        elif per_unit < (1 + 2 * error) * self._base or (self._doubling and per_unit < 1.1 * self._base):
            # Within the error, move alike in both directions, or the base would follow the fastest answers.
            self._base += 0.3 * known * (per_unit - self._base)

    def _look_taken(self, per_unit: float, known: float, error: float) -> None:
        """The base was measured with fewer requests in flight."""
        if per_unit < (_AS_FAST_LOOKED + 2 * error) * self._smooth:
            gain = 0.4 if per_unit < self._base else 0.15
            self._base += gain * known * (per_unit - self._base)
        # Otherwise it became slower meanwhile, though fewer are in flight: that is no measurement of the
        # base.

    def _slower(self, now: float, per_unit: float) -> bool:
        """Whether fewer in flight did not make it faster: then the endpoint is slower, and has no queue."""
        if self._run is None:
            return False
        first, level, before = self._run
        if per_unit > _CHANGING * before:
            self._run = (first, self._level, per_unit)  # ``before`` was measured during a change
            return False
        if self._level > 0.7 * level or per_unit < 0.9 * before:
            return False
        self._run = None
        self._base = per_unit
        self._set(first, now, "slower, without a queue")
        return True

    @property
    def _least_queued(self) -> float:
        return 0.5 + 0.03 * self._level

    @property
    def _most_queued(self) -> float:
        return 1.2 + 0.07 * self._level

    def _act(self, now: float, queue: float, full: bool, per_unit: float = 0.0) -> None:
        if queue > self._most_queued:
            if self._run is None and per_unit and self.reason == "queueing":
                self._run = (self._level, self._level, 0.0 if self._jumped else per_unit)
            self._grow_slowly()
            self._set(max(self._level - (queue - self._least_queued), self._level / 2), now, "queueing")
        elif queue < self._least_queued:
            self._run = None
            if full and self._level < self.most:
                self._grow(now)
            else:
                self._restart(now)
        else:
            self._run = None
            self._grow_slowly()
            self._settle(now, per_unit)

    def _grow(self, now: float) -> None:
        if self._level + 1e-9 >= self._ceiling:
            if now < self._hold_until:
                self._restart(now)
                return
            if self._passing:
                self._ceiling, self._hold = math.inf, _FIRST_HOLD
            else:
                self._passing = True
                self._ceiling += 1.0
                self._step = 1.0
        level = min(self._level + self._step, self._ceiling)
        self._step = level if self._doubling else min(self._step * 2, max(1.0, level / 2))
        self._set(level, now, "room")

    def _settle(self, now: float, per_unit: float) -> None:
        """There is a small queue, as intended. Measure the latency without it from time to time."""
        if not per_unit:
            # Proportional decreases and equal increases bring workers on one endpoint to the same level.
            self._quiet = (self._quiet + 1) % 4
            self._set(self._level * (1.0 if self._quiet else 0.96), now, "full")
        elif now >= self._look_at:
            self._look_at = now + max(_LOOK_SECONDS, _LOOK_LATENCIES * self._latency)
            self._lowered_from = self._level
            self._set(self._level - self._most_queued - 0.5, now, "full")
        else:
            self.reason = "full"
            self._restart(now)

    def _grow_slowly(self) -> None:
        self._doubling = False
        self._step = 1.0

    def _set(self, level: float, now: float, reason: str) -> None:
        self.reason = reason
        self._level = min(max(level, 1.0), float(self.most))
        self._restart(now)

    def _restart(self, now: float) -> None:
        self._since = now
        self._count = 0
        self._fulls = 0
        self._seconds = 0.0
        self._units = 0.0
        self._squares = [0.0, 0.0, 0.0]  # of seconds, of seconds times units, of units
        self._enough = max(4 if self._doubling else 8, int(self._level * (1 if self._doubling else 1.5)))
