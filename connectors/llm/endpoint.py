"""One endpoint: requests within its limit, the evidence of how they ended, and harmless texts to tell whether
a failure is the endpoint's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import structlog

from connectors.llm.answer import Completion, json_in
from connectors.llm.body import completion_of
from connectors.llm.calls import Check, Failure, Form, host_and_port, traced_call
from connectors.llm.capabilities import Capabilities
from connectors.llm.errors import is_late, of_everyone
from connectors.llm.http import Http, until_permitted
from connectors.llm.limit import Limit, Load
from connectors.llm.load import load_in, metrics_url
from connectors.llm.request import Asked, RequestForm, harmless
from connectors.llm.server_watch import ServerWatch
from streams.core.background import apart
from streams.core.context import of_no_row
from streams.core.errors import (
    AnswerError,
    LabelstreamError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from streams.ports.spans import OnCall

log = structlog.get_logger()

# First calls of other texts that must have ended between two tries of a suspected one.
_OTHERS = 5
# Another form was answered so recently that the endpoint is there.
_RECENT_SECONDS = 30.0
_ASIDE_SECONDS = 4.0  # for the metrics
_NO_METRICS_SECONDS = 60.0
_CROWDED_SECONDS = 1.0
_MODELS_SECONDS = 10.0
_LEAST_PROBE_SECONDS, _PROBE_LATENCIES = 5.0, 5.0
# What the endpoint takes is not explored again more often than this, if all is refused.
_EXPLORE_SECONDS = 60.0


class Endpoint:
    """Sends requests to one address. All clients of the endpoint share it."""

    def __init__(
        self,
        http: Http,
        *,
        base_url: str,
        setting: str,
        concurrency: int,
        timeout_seconds: float,
        name: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``setting``, and ``name`` if there are several, name the endpoint in errors and in the log."""
        self.http = http
        self.name = name
        self.stats: Counter[str] = Counter()
        # Called with the seconds that each answered request took.
        self.observe: Callable[[float], None] = _unobserved
        # Called with each request that has ended, where calls are traced.
        self.traced: OnCall | None = None
        # Asked when it answers again after an outage: whether it may be used.
        self.verify: Callable[[], Awaitable[bool]] = _accepted
        self.limit = Limit(concurrency, setting=setting, name=name, probe=self._answers, load=self._load)
        # Asked before each request, and again right before it is written; while it returns False, nothing is
        # sent. In a worker it tells whether the lease is valid.
        self.permitted: Callable[[], bool] = lambda: True
        self._base_url = base_url
        self._place = host_and_port(base_url)
        self._setting = setting
        self._timeout = timeout_seconds
        self._clock = clock
        self._forms: dict[str, Form] = {}
        self._tables: dict[str, Capabilities] = {}
        self._watch = ServerWatch(self.look, self._forget, name=name, clock=clock)
        self._explored = -math.inf
        # The last text for which there was no room, and when; the same for time-outs.
        self._crowded = {False: (0, -math.inf), True: (0, -math.inf)}
        self._away: Form | None = None  # the form that is probed while the endpoint is away
        self._unreadable = False  # it is away because its answers cannot be used
        self._no_metrics_until = 0.0

    def takes(self, model: str) -> Capabilities:
        """What is known of how requests for ``model`` are taken."""
        return self._tables.setdefault(model, Capabilities())

    def form(
        self, model: str, request: RequestForm, asked: Asked, check: Check | None, *, last: bool
    ) -> Form:
        """The form of a request. ``last``: if its answer cannot be used, the caller has no other question."""
        held = request.schema if asked.schema is not None else ""
        choice = "choice" if asked.choice is not None else ""
        name = f"{model} {held} {choice} {min(asked.logprobs, request.logprobs)}"
        form = self._forms.get(name)
        if form is None:
            form = self._forms[name] = Form(name, model, asked, check)
        if last:
            form.asked, form.check = asked, check
        return form

    async def compare(self, form: Form, text: int, ended: float) -> None:
        """Wait until some other texts were tried since ``ended``. If nobody does so, harmless ones are."""
        if form.evidence.others_after(text, ended) < _OTHERS and self.limit.available:
            await self._try_harmless(form, _OTHERS)

    async def look(self, path: str) -> bytes:
        """What is at ``path``: `/models` below the address, others beside it.

        Raises:
            LabelstreamError: as `Http.ask`.
        """
        url = path if path == "/models" else self._base_url.rstrip("/").removesuffix("/v1") + path
        return await self.http.ask("GET", url, seconds=_ASIDE_SECONDS)

    async def models(self) -> list[str]:
        """The names of the models that it serves. Raises our errors at once."""
        answer = json_in(await self.http.ask("GET", "/models", seconds=min(self._timeout, _MODELS_SECONDS)))
        try:
            return [str(entry["id"]) for entry in answer["data"]]
        except (KeyError, TypeError) as error:
            raise RetryableError("the endpoint's list of models is not one") from error

    def leave(self, error: LabelstreamError) -> None:
        """Send nothing until a harmless text is answered."""
        self._away = next((one for one in self._forms.values() if one.asked.choice is None), None)
        self.limit.leave(error)

    async def close(self) -> None:
        """Stop everything, and close the connections."""
        tasks = [form.trying for form in self._forms.values() if form.trying is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._watch.close()
        await self.limit.close()
        await self.http.close()

    # --- calls ---

    async def ask(
        self,
        form: Form,
        body: dict[str, Any],
        text: int,
        *,
        first: bool = True,
        check: Check | None = None,
        at_once: tuple[type[LabelstreamError], ...] = (),
        seconds: float | None = None,
    ) -> Completion | Failure:
        """One request, in a slot of `limit` that the caller has entered, and that is returned. ``text``
        identifies the text, ``first``: not asked before. ``at_once``: the errors after which the caller
        has another request to try. A refusal is no evidence then: it is only found out which form is taken.
        """
        began = time.time_ns() if self.traced is not None else 0
        try:
            await until_permitted(self.permitted)  # before its time-out begins
            started = self._clock()
            self.stats["calls"] += 1
            completion = await self._request(body, check, seconds or self._timeout)
        except LabelstreamError as error:
            now = self._clock()
            self.stats["failures"] += 1
            if self.traced is not None:
                self.traced(traced_call(form, body, self._place, began, error))
            if isinstance(error, UnavailableError):
                self._watch.unreachable()
            counts = first and not (RefusedError in at_once and isinstance(error, RefusedError))
            if counts:
                self._failed(form, text, now, in_a_row=not isinstance(error, at_once))
            late = is_late(error.__cause__)
            if counts and self._lacks_room(error, text, now, late=late):
                self.limit.failed(error, late=late)
            else:
                self.limit.left()
            return Failure(error, now, form)
        except BaseException:
            self.limit.left()
            raise
        self._answered(form, text, first=first)
        self.limit.answered(started, completion.output_tokens)
        self.stats["output_tokens"] += completion.output_tokens
        self.stats["input_tokens"] += completion.input_tokens
        self.observe(self._clock() - started)
        if self.traced is not None:
            self.traced(traced_call(form, body, self._place, began, completion))
        return completion

    async def _request(self, body: dict[str, Any], check: Check | None, seconds: float) -> Completion:
        content = await self.http.ask(
            "POST", "/chat/completions", body, seconds=seconds, permitted=self.permitted
        )
        completion = completion_of(content, self._setting)
        if check is not None:
            check(completion)
        return completion

    # --- evidence ---

    def _answered(self, form: Form, text: int, *, first: bool) -> None:
        form.evidence.answered(text, self._clock(), first=first)
        if form.said:
            form.said = ""
            of_no_row(log.info, "the endpoint takes these requests again", form=form.name)
        self._watch.answered(form.model)

    def _lacks_room(self, error: LabelstreamError, text: int, now: float, *, late: bool) -> bool:
        """Whether the endpoint has no room, or is slow, and not only for this text: it says when to return,
        or it was the same for another text shortly before.
        """
        if not late and not isinstance(error, OverloadedError):
            return False
        if isinstance(error, OverloadedError) and error.after is not None:
            return True
        (other, at), self._crowded[late] = self._crowded[late], (text, now)
        seconds = 2 * self._timeout if late else max(_CROWDED_SECONDS, self.limit.pace.latency)
        return other != text and now - at < seconds

    def _failed(self, form: Form, text: int, now: float, *, in_a_row: bool) -> None:
        form.evidence.failed(text, now, in_a_row=in_a_row)
        if self.limit.available and form.evidence.suspicious and (form.trying is None or form.trying.done()):
            form.trying = apart(self._suspect(form))

    async def _suspect(self, form: Form) -> None:
        """Many failed in a row: if a harmless text fails as well, it is not for their texts."""
        await self.limit.enter(urgent=True)
        failure = await self._harmless(form)
        if failure is None or not form.evidence.suspicious or not self.limit.available:
            return
        if await self._explore(form, failure.error):
            return
        error = of_everyone(failure.error, self._setting)
        others = max((one.evidence.answered_at for one in self._forms.values() if one is not form), default=0)
        if self._clock() - others < _RECENT_SECONDS:
            # The endpoint answers requests of other forms: they go on, and these are tried now and then.
            if not form.said:
                form.said = str(error)
                of_no_row(
                    log.warning,
                    "the endpoint refuses every request of one form",
                    form=form.name,
                    reason=str(error),
                    setting=getattr(error, "setting", "") or self._setting,
                    fix=getattr(error, "fix", "") or None,
                )
            return
        self._away, self._unreadable = form, isinstance(failure.error, AnswerError)
        self._watch.away()
        self.limit.leave(error)

    async def _try_harmless(self, form: Form, number: int) -> None:
        """Harmless texts, shared by all that wait for them."""
        if form.trying is None or form.trying.done():
            form.trying = apart(self._harmless_ones(form, number))
        await asyncio.shield(form.trying)

    async def _harmless_ones(self, form: Form, number: int) -> None:
        async def one() -> None:
            await self.limit.enter()
            await self._harmless(form)

        await asyncio.gather(*(one() for _ in range(number)))
        if form.evidence.suspicious and self.limit.available:
            await self._suspect(form)

    async def _harmless(self, form: Form) -> Failure | None:
        """Ask for a harmless text, in a slot. None if it was answered."""
        body, text = self._harmless_body(form)
        found = await self.ask(form, body, text, check=form.check, seconds=self._soon)
        return found if isinstance(found, Failure) else None

    @property
    def _soon(self) -> float:
        """Seconds in which a harmless text should be answered."""
        return min(self._timeout, max(_LEAST_PROBE_SECONDS, _PROBE_LATENCIES * self.limit.pace.latency))

    async def _answers(self) -> bool:
        """Whether the endpoint, which was away, answers a harmless text."""
        form = self._away
        if form is None:
            return await self.verify()
        body, text = self._harmless_body(form)
        try:
            await until_permitted(self.permitted)
            self.stats["calls"] += 1
            await self._request(body, form.check if self._unreadable else None, self._soon)
        except LabelstreamError as error:
            self.stats["failures"] += 1
            if not await self._explore(form, error):
                form.evidence.failed(text, self._clock())
                self.limit.leave(of_everyone(error, self._setting))
                return False
        self._answered(form, text, first=True)
        return await self.verify()

    def _harmless_body(self, form: Form) -> tuple[dict[str, Any], int]:
        """A harmless text in the form that is asked in now, and the number that identifies it."""
        takes = self.takes(form.model)
        asked, text = harmless(form.asked._replace(choice_form=takes.choice or form.asked.choice_form))
        return takes.form.body(form.model, asked), text

    # --- what it takes ---

    async def _explore(self, form: Form, error: LabelstreamError) -> bool:
        """Requests are refused that were taken before: find out, with harmless texts, what is taken now.
        Whether something has changed, so that calls can go on.
        """
        now = self._clock()
        if not isinstance(error, RefusedError) or now - self._explored < _EXPLORE_SECONDS:
            return False
        self._explored = now

        async def send(request: RequestForm, asked: Asked) -> Completion | Failure:
            body = request.body(form.model, harmless(asked)[0])
            try:
                await until_permitted(self.permitted)
                self.stats["calls"] += 1
                return await self._request(body, None, self._soon)
            except LabelstreamError as failed:
                self.stats["failures"] += 1
                return Failure(failed, self._clock(), form)

        takes = self.takes(form.model)
        changed = await takes.explore(form.asked, send, error)
        if changed:
            of_no_row(
                log.warning,
                "the endpoint refuses what it took before, and is asked otherwise from now on",
                endpoint=self.name,
                why=str(error)[:200],
                takes=takes.told
                if takes.choice is not None or form.asked.choice is None
                else "no such choice",
            )
        return changed

    def _forget(self) -> None:
        """Another server answers: nothing is known of what it takes."""
        for table in self._tables.values():
            table.forget()

    async def _load(self) -> Load | None:
        if self._clock() < self._no_metrics_until:
            return None
        try:
            content = await self.http.ask("GET", metrics_url(self._base_url), seconds=_ASIDE_SECONDS)
            found = load_in(content.decode("utf-8", "replace"))
        except LabelstreamError as error:
            found = None
            if isinstance(error, RetryableError):
                return None
        if found is None:
            self._no_metrics_until = self._clock() + _NO_METRICS_SECONDS
        return found


async def _accepted() -> bool:
    return True


def _unobserved(_: float) -> None:
    """The default: nothing is measured."""
