"""Several endpoints that serve one model: a call takes a free slot at the least loaded of them.

A waiting call is in the queues of all of them: no slot stays free while a call waits, and no call waits for
a slow endpoint while another one has a free slot. Each has its own limit and evidence: one that fails is left
out, and is used again when it answers and serves the model.
"""

from __future__ import annotations

import asyncio
import copy
import functools
from collections import Counter
from collections.abc import Sequence
from urllib.parse import urlsplit

from connectors.llm.endpoint import Endpoint
from connectors.llm.limit import LimitState, Turn, granted
from streams.core.errors import ConfigurationError, LabelstreamError


class Endpoints:
    """One endpoint or more. ``stats`` are the counts of all of them."""

    def __init__(self, endpoints: Sequence[Endpoint], *, setting: str) -> None:
        """``setting`` has their addresses."""
        self.all = tuple(endpoints)
        self.stats: Counter[str] = Counter()
        self._setting = setting
        self._by_limit = {one.limit: one for one in self.all}
        self._offered: dict[Endpoint, list[str]] = {}
        self._model: str | None = None
        self._agreeing = asyncio.Lock()
        for one in self.all:
            one.stats = self.stats
            if len(self.all) > 1:
                one.verify = functools.partial(self._verify, one)

    @property
    def agreed(self) -> bool:
        """Whether it is known that all serve the same model; of one endpoint it is."""
        return self._model is not None or len(self.all) == 1

    @property
    def away(self) -> LabelstreamError | None:
        """Why calls wait; None if an endpoint is available."""
        reasons = [one.limit.away for one in self.all]
        return reasons[0] if all(reasons) else None

    def state(self) -> LimitState:
        """The limits taken together; ``reason`` names the endpoints that are away."""
        states = [one.limit.state() for one in self.all]
        if len(states) == 1:
            return states[0]
        away = [
            f"{one.name}: {state.reason}"
            for one, state in zip(self.all, states, strict=True)
            if not state.available
        ]
        told = [state.endpoint_waiting for state in states if state.endpoint_waiting is not None]
        return LimitState(
            limit=sum(state.limit for state in states),
            in_flight=sum(state.in_flight for state in states),
            # The same calls wait at each of them.
            waiting=max(state.waiting for state in states),
            waiting_replay=max(state.waiting_replay for state in states),
            available=any(state.available for state in states),
            reason="; ".join(away or dict.fromkeys(state.reason for state in states)),
            endpoint_waiting=sum(told) if told else None,
        )

    async def enter(self, model: str) -> Endpoint:
        """Take a slot at an endpoint that serves ``model``, and wait until one is free."""
        serving = [one for one in self.all if model in self._offered.get(one, (model,))] or self.all
        if len(serving) == 1:
            await serving[0].limit.enter()
            return serving[0]
        turn: Turn = asyncio.get_running_loop().create_future()
        for one in sorted(serving, key=_load):
            one.limit.queue(turn)
            if turn.done():
                break
        return self._by_limit[await granted(turn)]

    def only(self, endpoint: Endpoint) -> Endpoints:
        """One of them."""
        other = copy.copy(self)
        other.all = (endpoint,)
        return other

    async def models(self) -> list[str]:
        """The names of the models that each of them serves.

        Raises:
            LabelstreamError: one does not tell.
        """
        offered = []
        for one in self.all:
            try:
                offered.append(await one.models())
            except LabelstreamError as error:
                _name(error, one)
                raise
        return [name for name in offered[0] if all(name in names for names in offered)]

    async def agree(self, model: str | None) -> str:
        """The name of the model that all serve: ``model``, or if that is None the only one of each.

        Those that do not answer are used when they do, and serve it.

        Raises:
            ConfigurationError: they serve different models, or several and none is configured.
            LabelstreamError: none of them answers.
        """
        async with self._agreeing:
            if self._model is not None:
                return self._model
            found = await asyncio.gather(*(one.models() for one in self.all), return_exceptions=True)
            failed: dict[Endpoint, LabelstreamError] = {}
            for one, offered in zip(self.all, found, strict=True):
                if isinstance(offered, LabelstreamError):
                    failed[one] = offered
                elif isinstance(offered, BaseException):
                    raise offered
                else:
                    self._offered[one] = offered
            if not self._offered:
                _name(failed[self.all[0]], self.all[0])
                raise failed[self.all[0]]
            chosen = model or self._only_one()
            for one, offered in self._offered.items():
                if len(self.all) > 1 and chosen not in offered:
                    raise self._other_model(one, chosen)
            for one, error in failed.items():
                one.limit.leave(error)
            self._model = chosen
            return chosen

    async def close(self) -> None:
        """Stop everything, and close the connections."""
        for one in self.all:
            await one.close()

    def _only_one(self) -> str:
        names = self._setting.replace("_API_BASE", "_MODEL")
        for offered in self._offered.values():
            if len(offered) != 1:
                raise ConfigurationError(
                    f"the endpoint offers {len(offered)} models: {', '.join(offered) or 'none'}",
                    setting=names,
                    fix=f"set {names} to one of them",
                )
        return next(iter(self._offered.values()))[0]

    async def _verify(self, endpoint: Endpoint) -> bool:
        """Whether an endpoint that answers again serves the model."""
        if self._model is None:
            return True
        try:
            self._offered[endpoint] = await endpoint.models()
        except LabelstreamError as error:
            endpoint.limit.leave(error)
            return False
        if self._model not in self._offered[endpoint]:
            endpoint.limit.leave(self._other_model(endpoint, self._model))
            return False
        return True

    def _other_model(self, endpoint: Endpoint, model: str) -> ConfigurationError:
        offered = ", ".join(self._offered[endpoint]) or "none"
        return ConfigurationError(
            f"the endpoints serve different models: {endpoint.name} has {offered}, and not {model}; the "
            "labels of one version come from one model",
            setting=self._setting,
            fix="name only endpoints of one model, under one name (vLLM: --served-model-name, llama-server: "
            "--alias)",
        )


def place_of(url: str) -> str:
    """Host and port, to name an endpoint by; no user and no password."""
    return urlsplit(url).netloc.rpartition("@")[2]


def _name(error: LabelstreamError, endpoint: Endpoint) -> None:
    """Begin the text of ``error`` with the name of the endpoint, if there are several."""
    if endpoint.name is not None:
        error.args = (f"{endpoint.name}: {error}",)


def _load(endpoint: Endpoint) -> tuple[float, float]:
    """The smaller one is asked first; of two that are equal, the one that answers sooner."""
    return endpoint.limit.load, endpoint.limit.pace.latency
