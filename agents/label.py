"""Label: choose a domain of the taxonomy for a row."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

import orjson
import structlog
from pydantic import ValidationError

from agents.asking import JsonAsker, ask_shorter
from agents.choose import MOST_OPTIONS, Chooser
from agents.distribution import of_object
from agents.ports import Answers, Model, ModelAnswer, outcome_of
from agents.prompting import parse_answer, prompt_text, with_placeholders, wrap_query
from agents.reading import LabelReader, without_thoughts
from agents.routing import Router
from agents.taxonomy import Taxonomy
from streams.core.calibration import VersionCalibration, reported
from streams.core.errors import ConfigurationError, LabelstreamError
from streams.core.label_version import LabelSpec
from streams.core.messages import Alternative, Labeled, Row
from streams.core.outcomes import Done, Outcome
from streams.core.settings import Settings
from streams.core.topics import normalise

log = structlog.get_logger()

_TOKENS = 60
_STRICTER = (
    'Прошлый ответ не подошёл. Ответь ровно одним объектом JSON {{"label": "..."}}, где значение — '
    "одно из имён: {names}."
)


class Decision(NamedTuple):
    """A label and its distribution, as far as the endpoint reports it."""

    label: str
    confidence: float | None
    alternatives: tuple[tuple[str, float], ...]

    def pack(self) -> bytes:
        """As bytes, for the cache of answers."""
        return orjson.dumps([self.label, self.confidence, *self.alternatives])

    @classmethod
    def unpack(cls, packed: bytes) -> Decision:
        """The inverse of `pack`."""
        label, confidence, *others = orjson.loads(packed)
        return cls(label, confidence, tuple(others))


def answer_key(version: str, text: str) -> bytes:
    """The cache key of the answer for ``text`` under a label version. Equal texts have equal keys."""
    content = f"{version}\x00{normalise(text)}".encode("utf-8", "surrogatepass")
    return blake2b(content, digest_size=16).digest()


def cache_entry(
    message: Labeled, calibrations: Mapping[int, VersionCalibration] | None = None
) -> tuple[bytes, bytes] | None:
    """The cache key and the answer in a published message, to `warm` a cache of answers; None if it is no
    answer of the model.

    ``calibrations``: those of its version, by generation. The cache holds what the model reported, without
    alternatives where the message's generation is not among them yet: to ask again would cost a call.
    """
    if message.decided_by != "llm":
        return None
    alternatives = tuple((one.label, one.confidence) for one in message.alternatives)
    confidence = message.confidence
    if confidence is not None:
        confidence, alternatives = reported(
            confidence, message.confidence_raw, message.calibration, alternatives, calibrations or {}
        )
    decision = Decision(message.label, confidence, alternatives)
    return answer_key(message.label_version, message.text), decision.pack()


def label_version(model: str, prompt: str, taxonomy: Taxonomy, mode: str) -> str:
    """A name that changes with the model, the prompt, the taxonomy or the mode."""
    digest = blake2b(f"{model}\n{prompt}\n{taxonomy.digest}\n{mode}".encode(), digest_size=4).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]+', '-', model).strip('-')[:60] or 'model'}.{digest}"


async def make_labeler(
    settings: Settings, model: Model, taxonomy: Taxonomy, answers: Answers
) -> tuple[Callable[[Row], Awaitable[Outcome[Labeled]]], str]:
    """The label step, and its label version.

    Raises:
        RetryableError, ConfigurationError: the endpoint does not tell its model, or which mode it supports.
    """
    spec = await label_spec(settings, model, taxonomy)
    return labeler_of(spec, model, answers).label, spec.version


async def label_spec(
    settings: Settings,
    model: Model,
    taxonomy: Taxonomy,
    *,
    version: str | None = None,
    prompt: str | None = None,
) -> LabelSpec:
    """The label version that the settings describe.

    ``version``: its name, if it is not the one in the settings. ``prompt``: the template of the mode's
    prompt, if it is not the packaged one.

    Raises:
        as `make_labeler`.
    """
    name = await model.model()
    mode = settings.llm_labeler_mode
    if mode != "json" and len(taxonomy.names) > MOST_OPTIONS:
        log.warning("too many labels to choose by letter, asking for JSON", labels=len(taxonomy.names))
        mode = "json"
    prompts = {"label": prompt_text("label")} | ({} if mode == "json" else {"choice": prompt_text("choice")})
    if prompt is not None:
        prompts["label" if mode == "json" else "choice"] = prompt
    if settings.privacy == "mask":
        # A version of its own: it reads other texts.
        prompts = {which: with_placeholders(text) for which, text in prompts.items()}
        prompt = None if prompt is None else with_placeholders(prompt)
    if mode != "json":
        chooser = Chooser(model, taxonomy, seed=_seed(name, taxonomy), prompt=prompts["choice"])
        if not await chooser.supported(told=mode == "auto"):
            say = log.warning if mode == "choice" else log.info
            say("the endpoint cannot be asked for a letter, asking for JSON", model=name, wanted=mode)
            mode, prompts = "json", {"label": prompt or prompts["label"]}
        else:
            mode = "choice"
    deciding = prompts["choice" if mode == "choice" else "label"]
    return LabelSpec(
        version=version or settings.label_version or label_version(name, deciding, taxonomy, mode),
        model=name,
        mode=mode,
        prompts=prompts,
        taxonomy=taxonomy.model_dump(mode="json"),
    )


def labeler_of(
    spec: LabelSpec,
    model: Model,
    answers: Answers,
    calibration: Callable[[], VersionCalibration | None] = lambda: None,
    router: Router | None = None,
    *,
    turned_round: bool = False,
) -> Labeler:
    """The label step of a version; ``model`` must be the model that the version names. ``calibration``: the
    newest one of the version. ``router``: None where the model labels all. ``turned_round``: it is shown the
    labels in the opposite order.

    Raises:
        ConfigurationError: the version's taxonomy is invalid.
    """
    try:
        taxonomy = Taxonomy.model_validate(spec.taxonomy)
    except ValidationError as error:
        raise ConfigurationError(f"label version {spec.version} holds no taxonomy: {error}") from error
    chooser = None
    if spec.mode == "choice":
        seed, prompt = _seed(spec.model, taxonomy), spec.prompts["choice"]
        chooser = Chooser(model, taxonomy, seed, prompt=prompt, turned_round=turned_round)
    if turned_round:
        taxonomy = Taxonomy(domains=taxonomy.domains[::-1])
    return Labeler(
        model,
        spec.model,
        spec.prompts["label"],
        taxonomy,
        spec.version,
        answers,
        chooser,
        calibration,
        router,
    )


def _seed(model: str, taxonomy: Taxonomy) -> str:
    return f"{model}\n{taxonomy.digest}"


class Labeler:
    """The label step."""

    def __init__(
        self,
        model: Model,
        name: str,
        prompt: str,
        taxonomy: Taxonomy,
        version: str,
        answers: Answers,
        chooser: Chooser | None = None,
        calibration: Callable[[], VersionCalibration | None] = lambda: None,
        router: Router | None = None,
    ) -> None:
        self._router = router
        self._name = name
        self._names = taxonomy.names
        self._labels = LabelReader(taxonomy)
        self._version = version
        self._answers = answers
        self._chooser = chooser
        self._calibration = calibration
        self._system = {"role": "system", "content": prompt.format(domains=taxonomy.as_prompt())}
        self._stricter = _STRICTER.format(names=", ".join(self._names))
        schema = {
            "type": "object",
            "properties": {"label": {"type": "string", "enum": list(self._names)}},
            "required": ["label"],
            "additionalProperties": False,
        }
        self._json = JsonAsker(model, schema, logprobs=True)

    async def label(self, row: Row) -> Outcome[Labeled]:
        """Label one row. Equal texts share one answer; only what it would have to be asked for is routed."""
        key = answer_key(self._version, row.text)
        if self._router is not None:
            if self._answers.known(key) is not None:
                self._router.counts["cache"] += 1
            elif (
                (routed := await self._router.route(row.text)) is not None and routed.label in self._names
            ):  # people may have taught it labels of other versions
                # Not cached: the next equal text is decided anew, by the newest state.
                return self._done(row, Decision(routed.label, routed.score, ()), proxy=routed.generation)
        try:
            packed, cached = await self._answers.get(key, lambda: self._decide(row.text))
        except LabelstreamError as error:
            return outcome_of(error)
        return self._done(row, Decision.unpack(packed), cached=cached)

    def _done(
        self, row: Row, decision: Decision, *, cached: bool = False, proxy: int | None = None
    ) -> Done[Labeled]:
        """``proxy``: the generation of the proxy that has decided."""
        confidence, alternatives = decision.confidence, decision.alternatives
        # Equal texts share what the model reported, and the newest calibration is applied to it. A proxy's
        # score is none that the model has reported.
        scale = self._calibration() if proxy is None else None
        if scale is not None and confidence is not None:
            confidence, alternatives = scale.apply(confidence, alternatives)
        else:
            scale = None
        return Done(
            # No validation is needed: the row was validated when it was read, the rest was checked here.
            Labeled.made(
                **row.__dict__,
                label=decision.label,
                confidence=confidence,
                alternatives=[
                    Alternative.made(label=name, confidence=chance) for name, chance in alternatives
                ],
                label_version=self._version,
                model=self._name,
                labeled_at=datetime.now(UTC),
                cached=cached,
                confidence_raw=decision.confidence if proxy is None else None,
                calibration=None if scale is None else scale.generation,
                decided_by="llm" if proxy is None else "proxy",
                proxy_generation=proxy,
            )
        )

    async def _decide(self, text: str) -> bytes:
        return (await ask_shorter(text, self._ask)).pack()

    async def _ask(self, text: str, longest: int) -> Decision:
        if self._chooser is not None and (chosen := await self._chooser.choose(text, longest)) is not None:
            return Decision(chosen.label, *chosen.distribution)
        query = wrap_query(text, longest)
        return await self._json.ask_until_readable(
            [self._system], query, self._stricter, _TOKENS, self._read_decision
        )

    def _read_decision(self, completion: ModelAnswer) -> Decision | None:
        said = parse_answer(completion.text, "label")
        if said is None:
            said = without_thoughts(completion.text)  # it may be the bare label
        label = self._labels.meant(said) if isinstance(said, str) else None
        if label is None or not isinstance(said, str):
            return None
        return Decision(label, *of_object(completion.tokens, label, self._names, said.strip()))
