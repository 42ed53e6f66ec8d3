"""The target of each measurement, by the names of the reports' ratios."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """The target of one figure of ``bench``: at ``least`` or at ``most`` so much; ``aim``: a better value to
    aim for.
    """

    bench: str
    ratio: str
    least: float | None = None
    most: float | None = None
    aim: float | None = None

    @property
    def words(self) -> str:
        """For a table."""
        limit = f"at least {self.least:,g}" if self.least is not None else f"at most {self.most:,g}"
        return limit if self.aim is None else f"{limit}, aim {self.aim:,g}"

    def met(self, value: float) -> bool:
        """Whether ``value`` meets it."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)


TARGETS = (
    Target("label", "label path over 64 slots / 0.3 s", least=0.96, aim=0.99),
    Target("label", "label path over the raw loop, 64 in flight", least=0.97),
    Target("label", "label path over the raw loop, 256 in flight", least=0.97),
    Target("label", "rows/s, 5 ms endpoint", least=900, aim=1500),
    Target("label", "CPU ms a row, 5 ms endpoint", most=1.0, aim=0.6),
    Target("label", "CPU a row, label and augment over the raw client's two calls", most=1.9, aim=1.5),
    Target("label", "label and augment over 64 slots / 0.3 s", least=0.9),
    Target("label", "bytes of messages / on the broker, 64 slots / 0.3 s", least=1.8, aim=4),
    Target("label", "bytes of messages / on the broker, 5 ms endpoint", least=4),
    Target("calls", "calls beyond the distinct texts / places of the killed worker", most=1.0),
    Target("limit", "429: share refused after the fall", most=0.01),
    Target("limit", "429: rate over capacity 10 to 20 s after the return", least=0.9),
    Target("limit", "queue: waiting over slots after the fall, most", most=0.25),
    Target("limit", "queue: rate over capacity 10 to 20 s after the return", least=0.9),
    Target("endpoints", "endpoints: slots in use of those alive, least of the phases", least=0.95),
    Target("endpoints", "endpoints: labels that came twice", most=0.0),
    Target("endpoints", "endpoints: share refused", most=0.01),
    Target("tokens", "output tokens a label in choice mode", most=1.0),
    Target("classes", "live p95 beside a replay / alone", most=1.2),
    Target("variants", "live p95, all variants verified / none", most=1.2),
    Target("routing", "CPU ms a text routed alone", most=1.0),
    Target("routing", "CPU ms a text routed, 8 at once", most=0.25),
    Target("workers", "two workers / one", least=1.8),
    Target("latency", "p50 s, poll every 1 s", most=0.7),
    Target("latency", "p99 s, poll every 1 s", most=1.3),
    Target("latency", "p50 s, poll every 0.1 s", most=0.25),
    Target("latency", "p99 s, poll every 0.1 s", most=0.5),
    Target("traces", "CPU a row, traces 10 % over off", most=1.05),
    Target("poller", "poller / raw", least=0.8),
    Target("sink", "sink / columns", least=0.8),
)
