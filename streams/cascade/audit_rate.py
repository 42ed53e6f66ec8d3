"""How many of the routed texts the model labels all the same, so that a loss is found in time."""

from __future__ import annotations

from typing import NamedTuple

# At most this share, however long it takes then.
MOST = 0.10
# Audits until the monitor alarms when a quarter of the routed labels goes wrong.
ALARM_ROWS = 300


class AuditRate(NamedTuple):
    """``rate``: 0..MOST. ``minutes``: in which a loss is found at that rate; infinite without traffic."""

    rate: float
    minutes: float


def audit_rate(delay_minutes: float, texts_per_second: float, coverage: float) -> AuditRate:
    """The rate that finds a loss within ``delay_minutes``. ``texts_per_second``: distinct ones, that no cache
    answers; ``coverage``: the share of them that the proxy is sure of.
    """
    per_minute = texts_per_second * coverage * 60
    if per_minute <= 0:
        return AuditRate(MOST, float("inf"))
    rate = min(MOST, ALARM_ROWS / (delay_minutes * per_minute))
    return AuditRate(rate, ALARM_ROWS / (rate * per_minute))
