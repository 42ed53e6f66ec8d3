"""What one model of an endpoint takes: found out with the first refusals, and remembered until it changes."""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Literal

import structlog

from connectors.llm.answer import Completion
from connectors.llm.calls import Failure
from connectors.llm.request import CHOICE_FORMS, SYSTEM_ROLE, Asked, ChoiceForm, Part, RequestForm
from streams.core.context import of_no_row
from streams.core.errors import TOO_LONG, AnswerError, RefusedError, RetryableError

log = structlog.get_logger()

_BY_OWNER: dict[str, ChoiceForm] = {"llamacpp": "grammar", "sglang": "regex"}
# In the order in which they are left out if the refusal names none of them.
_PARTS: tuple[Part, ...] = ("logprobs", "schema", "tokens", "temperature", "system")
# In the order in which parts that are named are left out: first those that cost nothing.
_LIGHT_FIRST: tuple[Part, ...] = ("tokens", "temperature", "system", "logprobs", "schema")
_NAMES: dict[Part, re.Pattern[str]] = {
    "logprobs": re.compile("logprob", re.IGNORECASE),
    "schema": re.compile(
        "response_format|json_schema|json_object|schema|structured|guided|grammar", re.IGNORECASE
    ),
    "tokens": re.compile("max_tokens", re.IGNORECASE),
    "temperature": re.compile("temperature", re.IGNORECASE),
    "system": SYSTEM_ROLE,
}
_QUIET_SECONDS = 10.0
_PROBES = 3

# Tries a form of choice, or asks without one: the form to which the answer was held, None if it was not.
Probe = Callable[[ChoiceForm | None], Awaitable[ChoiceForm | None]]
# Sends a request in a form. On trial, a refusal is no evidence: another form may be taken.
Send = Callable[[RequestForm, bool], Awaitable[Completion | Failure]]
# Sends any request in a form, apart from the rows' calls.
SendAnother = Callable[[RequestForm, Asked], Awaitable[Completion | Failure]]


class Capabilities:
    """The form in which a model is asked. Nothing is left out until a request was refused with it, and
    accepted without it.
    """

    def __init__(self) -> None:
        self.form = RequestForm()
        # None: not tried. False: the model's answers are not held to a choice, in any form.
        self.choice: ChoiceForm | Literal[False] | None = None
        self._lock = asyncio.Lock()
        self._choosing = asyncio.Lock()
        self._taken: set[tuple[bool, bool, bool]] = set()
        self._quiet_until: dict[tuple[bool, bool, bool], float] = {}

    @property
    def told(self) -> str:
        """For a person: what requests hold. Empty until one was accepted."""
        if not self._taken:
            return ""
        form = self.form
        parts = [form.schema if form.schema != "none" else "no schema", f"{form.logprobs} logprobs"]
        parts += [f"choice as {self.choice}"] if self.choice else []
        parts += [form.tokens] if form.tokens != "max_tokens" else []
        parts += [] if form.temperature else ["no temperature"]
        parts += [] if form.system else ["no system role"]
        return ", ".join(parts)

    async def ask(self, asked: Asked, send: Send) -> Completion | Failure:
        """The answer to a request, in a form that the endpoint takes. A refusal in every form is that of the
        usual form.
        """
        form, trial = self.form, self._on_trial(asked)
        found = await self._sent(form, asked, send, trial)
        if not trial or not isinstance(found, Failure) or not isinstance(found.error, RefusedError):
            return found
        if found.error.reason == TOO_LONG:
            self._be_quiet(asked)
        if found.error.reason == TOO_LONG or asked.names_choice(found.error):
            return found
        async with self._lock:
            # Otherwise another request has found out meanwhile.
            if self.form == form and self._on_trial(asked):
                other = await self._try_others(asked, send, found.error)
                if other is not None:
                    return other
        return await self._sent(self.form, asked, send, False)

    async def explore(self, asked: Asked, send: SendAnother, refused: RefusedError) -> bool:
        """Find out again what is taken, because ``asked`` was taken before, and is ``refused``. Whether
        something has changed.
        """
        async with self._lock:
            before = self.form
            if asked.choice is not None and _is_taken(await send(before, asked.free)):
                self.choice = None  # only the choice is refused
                return True
            found = await self._changed(asked, send, refused)
            # The endpoint may have refused everything for a while, and be back.
            if found is None or _is_taken(await send(before, asked)):
                return False
            self.form = found
            self._taken = {asked.kind}
            self._quiet_until.clear()
            return True

    def forget(self) -> None:
        """Nothing is known any longer: it is found out again by the next requests."""
        self.form, self.choice = RequestForm(), None
        self._taken.clear()
        self._quiet_until.clear()

    async def find_choice(self, probe: Probe, owner: str) -> None:
        """Set ``choice``: ``probe`` tries a form, which is done once for each, or asks without one.
        ``owner``: `owned_by` in the endpoint's list of models.

        Raises:
            RetryableError: the endpoint refuses every request, so that this cannot be known now.
            as ``probe``, but for RefusedError.
        """
        async with self._choosing:
            if self.choice is None:
                first = _BY_OWNER.get(owner, CHOICE_FORMS[0])
                for form in sorted(CHOICE_FORMS, key=lambda form: form != first):
                    if (held := await _held(probe, form)) is not None:
                        self.choice = held
                        break
                else:
                    try:
                        await probe(None)
                    except RefusedError as error:
                        raise RetryableError(f"the endpoint refuses every request: {error}") from error
                    except AnswerError:
                        pass  # it is taken, whatever the answer
                    self.choice = False

    def _on_trial(self, asked: Asked) -> bool:
        return asked.kind not in self._taken and time.monotonic() >= self._quiet_until.get(asked.kind, 0.0)

    def _be_quiet(self, asked: Asked) -> None:
        """Refusals are evidence for a while: others need not try all forms again."""
        self._quiet_until[asked.kind] = time.monotonic() + _QUIET_SECONDS

    async def _sent(self, form: RequestForm, asked: Asked, send: Send, trial: bool) -> Completion | Failure:
        found = await send(form, trial)
        if form == self.form and _is_taken(found):
            self._taken.add(asked.kind)
        return found

    async def _try_others(
        self, asked: Asked, send: Send, refused: RefusedError
    ) -> Completion | Failure | None:
        """The answer in another form, which is used from now on; None if all are refused."""
        others, form, why = _Others(self.form, asked), self.form, refused
        while (form := others.after(form, why)) is not None:  # type: ignore[assignment]
            found = await send(form, True)
            if isinstance(found, Failure) and isinstance(found.error, RefusedError):
                why = found.error
            elif not _is_taken(found):
                return found  # it is not known whether the form is taken
            else:
                # Otherwise the usual form was taken meanwhile: the endpoint had refused for another reason.
                if asked.kind not in self._taken:
                    self._left_out(form, asked, refused)
                return found
        self._be_quiet(asked)
        return None

    async def _changed(self, asked: Asked, send: SendAnother, refused: RefusedError) -> RequestForm | None:
        """A form that is taken instead of the usual one, beginning with the whole one; None if none is."""
        why, others = refused, _Others(RequestForm(), asked)
        form = RequestForm() if RequestForm() != self.form else others.after(self.form, why)
        while form is not None:
            found = await send(form, asked)
            if _is_taken(found):
                return form
            if not isinstance(found, Failure) or not isinstance(found.error, RefusedError):
                return None  # the endpoint fails
            form, why = others.after(form, found.error), found.error
        return None

    def _left_out(self, form: RequestForm, asked: Asked, why: RefusedError) -> None:
        self._taken.add(asked.kind)
        self.form = form
        of_no_row(
            log.warning,
            "the endpoint refuses a part of the requests, which is left out from now on",
            why=str(why)[:200],
            **{name: getattr(form, name) for name in form.__dataclass_fields__},
        )


def _is_taken(found: Completion | Failure) -> bool:
    """Whether the request was accepted, whatever the answer."""
    return isinstance(found, Completion) or isinstance(found.error, AnswerError)


async def _held(probe: Probe, form: ChoiceForm) -> ChoiceForm | None:
    """``form`` if answers are held to it, with the probabilities after it if it is a grammar and they are
    told; None if they are not.
    """
    for tried in ("post_sampling_probs", form) if form == "grammar" else (form,):
        try:
            return await _asked_again(probe, tried)
        except (RefusedError, AnswerError, RetryableError) as error:
            if isinstance(error, RetryableError) and type(error) is not RetryableError:
                raise
            if form in str(error):
                break
    return None


async def _asked_again(probe: Probe, form: ChoiceForm) -> ChoiceForm | None:
    """The result of ``probe``. Some servers fail with a field that they do not know, others now and then: by
    one failure alone the mode, and with it the label version, would be another one.
    """
    for _ in range(_PROBES - 1):
        try:
            return await probe(form)
        except RetryableError as error:
            if type(error) is not RetryableError:
                raise
    return await probe(form)


class _Others:
    """Forms to try, one after the other: first without what a refusal names, then without each part, then
    without more and more of them.
    """

    def __init__(self, form: RequestForm, asked: Asked) -> None:
        self._asked = asked
        self._tried = {form}
        self._rest = _fewer(form, asked)

    def after(self, form: RequestForm, error: RefusedError) -> RequestForm | None:
        """The form to try after ``form`` was refused; None if there is none."""
        named = [
            form.without(part)
            for part in _LIGHT_FIRST
            if form.uses(part, self._asked) and _NAMES[part].search(str(error))
        ]
        for other in itertools.chain(named, self._rest):
            if other not in self._tried:
                self._tried.add(other)
                return other
        return None


def _fewer(form: RequestForm, asked: Asked) -> Iterator[RequestForm]:
    used = [part for part in _PARTS if form.uses(part, asked)]
    for part in used:
        yield form.without(part)
        yield _wholly_without(form, part, asked)
    for part in used:
        form = _wholly_without(form, part, asked)
        yield form


def _wholly_without(form: RequestForm, part: Part, asked: Asked) -> RequestForm:
    while form.uses(part, asked):
        form = form.without(part)
    return form
