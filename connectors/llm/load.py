"""The queue that an endpoint reports: `/metrics` of vLLM, SGLang and llama-server."""

from __future__ import annotations

import re

from connectors.llm.limit import Load

_RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs", "llamacpp:requests_processing")
_WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs", "llamacpp:requests_deferred")
_SAMPLE = re.compile(rf"^({'|'.join((*_RUNNING, *_WAITING))})(?:\{{[^}}]*\}})?\s+([0-9.eE+-]+)", re.MULTILINE)


def load_in(metrics: str) -> Load | None:
    """Running and waiting requests, summed over a server's engines; None if the text has neither."""
    running = waiting = 0.0
    told = False
    for name, value in _SAMPLE.findall(metrics):
        try:
            number = float(value)
        except ValueError:
            continue
        if name in _RUNNING:
            running += number
        else:
            told = True
            waiting += number
    return Load(running, waiting) if told else None


def metrics_url(base_url: str) -> str:
    """The URL of the metrics of the endpoint at ``base_url`` (which ends in `/v1`)."""
    return base_url.rstrip("/").removesuffix("/v1").rstrip("/") + "/metrics"
