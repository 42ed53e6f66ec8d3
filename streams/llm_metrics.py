"""Metrics of the LLM endpoints: the limit and why it is what it is, the queue, calls and tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from prometheus_client.metrics_core import Metric

from connectors.llm.limit import LimitState
from streams.metrics import counter, gauge


def llm_metrics(endpoints: Mapping[str, tuple[LimitState, Counter[str]]]) -> Iterable[Metric]:
    """``endpoints``: by name, the limit's state and the client's counts."""
    states = {name: state for name, (state, _) in endpoints.items()}
    label = ("endpoint",)
    yield gauge("llm_limit", "Requests that may be in flight now.", label, _each(states, "limit"))
    yield gauge("llm_in_flight", "Requests in flight.", label, _each(states, "in_flight"))
    yield gauge("llm_available", "1 while the endpoint answers.", label, _each(states, "available"))
    yield gauge(
        "llm_queue",
        "Requests that wait here for a place, live ones and replays.",
        ("endpoint", "class"),
        {(name, "live"): float(state.waiting) for name, state in states.items()}
        | {(name, "replay"): float(state.waiting_replay) for name, state in states.items()},
    )
    yield gauge(
        "llm_limit_reason",
        "Why the limit was last changed, or why nothing is sent; always 1.",
        ("endpoint", "reason"),
        {(name, state.reason): 1.0 for name, state in states.items()},
    )
    for key, help_ in (
        ("calls", "Requests sent."),
        ("failures", "Requests that failed."),
        ("retries", "Requests sent again."),
        ("output_tokens", "Tokens that the model wrote."),
    ):
        values = {(name,): float(counts[key]) for name, (_, counts) in endpoints.items()}
        yield counter(f"llm_{key}", help_, label, values)


def _each(states: Mapping[str, LimitState], field: str) -> dict[tuple[str, ...], float]:
    return {(name,): float(getattr(state, field)) for name, state in states.items()}
