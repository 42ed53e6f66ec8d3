"""Replays use what live messages leave."""

from __future__ import annotations

from streams.delivery.replay_throttle import Leftover


async def test_replays_give_way_when_the_loop_is_late() -> None:
    leftover = Leftover()
    assert leftover.allowed(1) == 1
    assert leftover.allowed(64) == 8
    for _ in range(200):
        leftover.noticed(0.0)
    assert leftover.allowed(64) == 64
    for _ in range(50):
        leftover.noticed(0.2)
    assert leftover.allowed(64) == 2


async def test_replays_leave_the_process_some_time_while_live_messages_come() -> None:
    now, cpu = 100.0, 5.0
    leftover = Leftover(lambda: now, lambda: cpu)

    def pass_time(ticks: int, busy: float) -> int:
        nonlocal now, cpu
        for _ in range(ticks):
            now, cpu = now + 0.05, cpu + 0.05 * busy
            leftover.noticed(0.0)
        return leftover.allowed(64)

    leftover.allowed(64)
    assert pass_time(100, 0.95) == 64  # nobody else is there
    leftover.live_came()
    assert pass_time(50, 0.6) == 64  # there is time enough
    leftover.live_came()
    assert pass_time(50, 0.95) < 20
    assert pass_time(100, 0.95) == 64  # no live message for seconds
