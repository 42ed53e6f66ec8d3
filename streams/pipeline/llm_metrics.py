"""Metrics of the LLM endpoints: the limit and the reason for it, the queue, calls and tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.metrics_core import Metric

from connectors.llm.limit import LimitState
from streams.observability import metrics as m


class EndpointReading(NamedTuple):
    """An endpoint's limit, the client's counts, and what its requests hold."""

    state: LimitState
    counts: Counter[str]
    form: str = ""


def llm_metrics(endpoints: Mapping[str, EndpointReading]) -> Iterable[Metric]:
    """``endpoints`` by name."""
    states = {name: one.state for name, one in endpoints.items()}
    yield m.LLM_LIMIT.family(_each(states, "limit"))
    yield m.LLM_IN_FLIGHT.family(_each(states, "in_flight"))
    yield m.LLM_AVAILABLE.family(_each(states, "available"))
    yield m.LLM_QUEUE.family(
        {(name, "live"): float(state.waiting) for name, state in states.items()}
        | {(name, "replay"): float(state.waiting_replay) for name, state in states.items()}
    )
    yield m.LLM_ENDPOINT_QUEUE.family(
        {
            (name,): state.endpoint_waiting
            for name, state in states.items()
            if state.endpoint_waiting is not None
        }
    )
    # While an endpoint is down, the reason is an error's text. That is no metric label: each text would be a
    # series.
    yield m.LLM_LIMIT_REASON.family(
        {(name, state.reason if state.available else "away"): 1.0 for name, state in states.items()}
    )
    yield m.LLM_FORM.family({(name, one.form): 1.0 for name, one in endpoints.items() if one.form})
    for declared, key in (
        (m.LLM_CALLS, "calls"),
        (m.LLM_FAILURES, "failures"),
        (m.LLM_RETRIES, "retries"),
        (m.LLM_INPUT_TOKENS, "input_tokens"),
        (m.LLM_OUTPUT_TOKENS, "output_tokens"),
    ):
        yield declared.family({(name,): float(one.counts[key]) for name, one in endpoints.items()})


def _each(states: Mapping[str, LimitState], field: str) -> dict[tuple[str, ...], float]:
    return {(name,): float(getattr(state, field)) for name, state in states.items()}
