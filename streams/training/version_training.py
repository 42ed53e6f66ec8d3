"""The cascade of one version: it learns, is certified, decides, is watched and, if need be, revoked.

A value of the outside world in, a state out: no Kafka, no ClickHouse, and no clock but the one that is given.
Everything that a successor must know is in the state's checkpoint, with the offsets up to which the messages
of the version are counted in it: so each counts once, whatever is killed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from agents.proxy.audited import is_audited
from agents.proxy.classifier import Proxy, ProxyDecision
from streams.cascade.audit_rate import MOST, audit_rate
from streams.cascade.certificate import AskedTwice, Certificate, risk_of
from streams.cascade.generation import Generation, LabeledText
from streams.cascade.monitor import Monitor
from streams.cascade.shares import fit_at, is_asked_twice, most_twice, part_of
from streams.core.cascade import CascadeState, ProxyRef
from streams.core.times import micros_of, moment
from streams.training.generations import AuditedText, GenerationNote, LearnedGeneration
from streams.training.sights import Seen, Sight, Sights, text_digest

# Texts that people judged: as many digests are in the checkpoint.
MOST_JUDGED = 4_000
_MOST_ROUTED = 50_000
_WINDOW_SECONDS, _LEAST_SECONDS = 3_600.0, 600.0
# So many texts tell the coverage better than the texts that chose the thresholds.
_ENOUGH = 200
# The rate that is published changes when it differs by so much: a message each time.
_RATE_CHANGE = 1.25


class CascadeLimits(NamedTuple):
    """As the settings have them: ``margin`` and ``risk`` 0..1, ``delay`` in minutes. ``deciding``: whether
    the proxies' labels are published (CASCADE=on).
    """

    margin: float
    risk: float
    delay: float
    deciding: bool


class Checkpoint(BaseModel):
    """The memory of a `VersionTraining`.

    ``offsets``: by the topic's incarnation, partition: the next offset. ``generation``: the last one that was
    fitted, and ``fits``: how many of the present schedule are past. ``since``: only texts labelled from then
    on teach, microseconds. ``deciding_since``: by whose proxy texts are kept from the model since then, and
    ``least_rate``: the least audit rate since. ``twice``: texts that the model was asked again.
    ``clean``: by label, and `*`, until when its monitor found nothing. ``revoked``: the last generation that
    was, and ``repaired``: whether a job labels again what it labelled from ``repair_since`` on, microseconds,
    whatever became of the cascade since. ``published``: whether its labels went to the subscribers, too.
    ``repairs``: how many jobs there were.
    """

    model_config = ConfigDict(extra="ignore")

    offsets: dict[str, dict[int, int]] = Field(default_factory=dict)
    generation: int = 0
    fits: int = 0
    since: int = 0
    current: GenerationNote | None = None
    candidate: GenerationNote | None = None
    monitor: Monitor | None = None
    deciding_since: int | None = None
    least_rate: float | None = None
    twice: AskedTwice = AskedTwice()
    clean: dict[str, int] = Field(default_factory=dict)
    judged: list[str] = Field(default_factory=list)
    revoked: int = 0
    repaired: bool = True
    repair_since: int | None = None
    published: bool = False
    repairs: int = 0


class VersionTraining:
    """The cascade of ``state.version``. ``proxies``: bytes by generation, those that the state names."""

    def __init__(
        self,
        state: CascadeState,
        limits: CascadeLimits,
        proxies: Mapping[int, bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.version = state.version
        self.sights = Sights(state.version)
        self.memory = Checkpoint.model_validate(state.checkpoint)
        self.unsaved = False  # anything that a successor would have to observe again
        self.urgent = False  # workers should know now
        self._state = state
        self._limits = limits
        self._clock = clock
        self._current = self._loaded(self.memory.current, proxies)
        self._candidate = self._loaded(self.memory.candidate, proxies)
        self._judged: dict[str, AuditedText] = {}
        self._people: dict[str, LabeledText] = {}
        self._routed: dict[str, None] = {}
        self._to_ask_twice: dict[str, Sight] = {}
        self._asking_twice: set[str] = set()
        self._arrivals: deque[tuple[float, int]] = deque()
        self._began = clock()
        if self._current is None and self.memory.current is not None:
            # Its bytes are gone, so that no worker can use it either.
            self.retire()
        if not limits.deciding:
            self.memory.deciding_since = None
        elif state.state == "certified" and self.memory.deciding_since is None:
            self.memory.deciding_since, self.memory.least_rate = self._now, state.audit_rate
        elif self.memory.least_rate is None:  # from a release that did not note it
            self.memory.least_rate = state.audit_rate

    def _loaded(self, note: GenerationNote | None, proxies: Mapping[int, bytes]) -> LearnedGeneration | None:
        if note is None or note.proxy.generation not in proxies:
            return None
        return LearnedGeneration(self.version, note, Proxy.unpack(proxies[note.proxy.generation]))

    # --- what comes in ---

    def remember(self, sights: Iterable[Sight]) -> None:
        """Texts that were counted before: after a restart they teach again, and nothing else."""
        for sight in sights:
            if sight.at >= self.memory.since:
                self.sights.add(text_digest(sight.text), sight)

    def observe(self, labels: Sequence[Seen]) -> None:
        """Labels of this version, in the order in which they were published."""
        new: list[Sight] = []
        texts = routed = 0
        for one in labels:
            digest = text_digest(one.text)
            if one.decided_by == "proxy":
                self._saw_late(one)
                if digest not in self.sights and digest not in self._routed:
                    self._keep_routed(digest)
                    texts, routed = texts + 1, routed + 1
            elif one.decided_by == "llm" and one.at >= self.memory.since:
                sight = Sight(one.text, one.label, one.at, one.drawn, self._is_uniform(one.text))
                if self.sights.add(digest, sight):
                    new.append(sight)
                    texts += digest not in self._routed
        # Else a successor that observes them again learns the same: they are not worth a message of 90 kB.
        self.unsaved |= bool(new or texts)
        routable = self._watch(new)
        if texts:
            self._arrivals.append((self._clock(), texts))
        if self._state.state == "certified":
            self._tell(
                texts=self._state.texts + texts,
                routable=self._state.routable + routed + routable,
                routed=self._state.routed + routed,
            )
        self._settle()

    def teach_by_people(self, texts: Iterable[LabeledText]) -> None:
        """Labels that people gave to rows which the audit did not draw."""
        for one in texts:
            self._people.pop(digest := text_digest(one.text), None)
            self._people[digest] = one

    def forget_by_people(self, texts: Iterable[str]) -> None:
        """Labels that people took back."""
        for text in texts:
            self._people.pop(text_digest(text), None)

    def judge(self, found: Iterable[AuditedText]) -> None:
        """What people said of rows of the audit: all that is known."""
        judged = {one.digest: one for one in found if one.at >= self.memory.since}
        known = set(self.memory.judged)
        new = [digest for digest in judged if digest not in known][: MOST_JUDGED - len(known)]
        self.memory.judged += new
        # An answer that was taken back no longer counts.
        self._judged = {digest: judged[digest] for digest in self.memory.judged if digest in judged}
        for one in (self._current, self._candidate):
            if one is not None:
                usable = [
                    self._judged[digest] if digest in self._judged and self._was_free(digest) else None
                    for digest in self.memory.judged
                ]
                one.judge(usable, self.sights, self._limits.margin, self._risk_of(one.number))
        self.unsaved |= bool(new)
        self._settle()

    def take_twice(self) -> list[Sight]:
        """Texts that the model is to be asked again, the labels in another order; each is given once."""
        found = list(self._to_ask_twice.values())
        self._asking_twice.update(self._to_ask_twice)
        self._to_ask_twice.clear()
        return found

    def hear_twice(self, sight: Sight, label: str | None) -> None:
        """The model's second label of one of `take_twice`; None if it gives none."""
        digest = text_digest(sight.text)
        if digest not in self._asking_twice:  # nothing that was taught before counts any more
            return
        self._asking_twice.remove(digest)
        if label is not None:
            asked, differed = self.memory.twice
            self.memory.twice = AskedTwice(asked + 1, differed + (label != sight.label))
            self.unsaved = True

    def begin_anew(self, wish: str) -> None:
        """As a person wishes: nothing that was taught counts any more."""
        self._forget(self._now)
        self._tell(state="learning", reset=wish, revoked_at=None, revoked_why="", clean_until=None)
        self.unsaved = self.urgent = True

    def reached(self, topic_id: str, partition: int, offset: int) -> None:
        """Messages before ``offset`` have been observed."""
        by = self.memory.offsets.setdefault(topic_id, {})
        by[partition] = max(by.get(partition, 0), offset)

    def retire(self) -> None:
        """Nobody uses the version: it keeps the numbers of its generations, and begins anew if it must."""
        self._forget(self.memory.since)
        self._tell(state="learning")
        self.unsaved = True

    # --- fitting ---

    @property
    def fit_due(self) -> bool:
        """Whether the next generation may be fitted: by the number of texts alone."""
        return self.sights.teaching >= fit_at(self.memory.fits + 1)

    def lessons(self) -> list[LabeledText]:
        """The texts to teach."""
        known = {sight.label for _, sight in self.sights}
        teach = [
            LabeledText(sight.text, sight.label)
            for digest, sight in self.sights
            if digest not in self._judged and digest not in self._people and self.sights.teaches(sight)
        ]
        return teach + [
            one
            for digest, one in self._people.items()
            if digest not in self._judged
            and one.label in known
            and part_of(self.version, one.text) == "teach"
        ]

    def fitted(self, generation: Generation, packed: bytes) -> ProxyRef:
        """The next generation was fitted to `lessons`, which have not changed since."""
        number = self.memory.generation + 1
        proxy = ProxyRef.of(number, packed)
        llm = Certificate.against_model(generation.for_llm, self.memory.twice, self._risk_of(number))
        note = GenerationNote(
            proxy=proxy,
            fitted_at=max((sight.at for _, sight in self.sights), default=0),
            judged=len(self.memory.judged),
            taught=len(self.lessons()),
            vetoed=tuple(sorted(generation.vetoed)),
            for_people=generation.for_people,
            coverage=tuple(sorted(generation.coverage.items())),
            disagreement=tuple(sorted(generation.disagreement.items())),
            label_disagreement=generation.label_disagreement,
            llm=llm,
        )
        learned = LearnedGeneration(self.version, note, generation.proxy)
        kept_back = [sight for _, sight in self.sights if learned.may_certify(sight)]
        learned.observe(kept_back, learned.proxy.decide([sight.text for sight in kept_back]))
        self.memory.generation = number
        self._scheduled()
        if self._state.state == "certified":
            self._candidate = learned
        else:
            self._current, self._candidate = learned, None
            self._tell(state="learning")
        self.judge(list(self._judged.values()))
        self.unsaved = self.urgent = True
        return proxy

    def not_fitted(self) -> None:
        """The next generation cannot be fitted: there must be twice as many texts."""
        self._scheduled()
        self.unsaved = True

    # --- what goes out ---

    @property
    def proxies(self) -> tuple[ProxyRef, ...]:
        """Those that a state names from now on."""
        return tuple(one.note.proxy for one in (self._current, self._candidate) if one is not None)

    def state(self, offsets: Mapping[str, Mapping[int, int]]) -> CascadeState:
        """To be published. ``offsets``: up to which messages were observed."""
        for topic, by in offsets.items():
            for partition, offset in by.items():
                self.reached(topic, partition, offset)
        self.memory.offsets = {topic: by for topic, by in self.memory.offsets.items() if topic in offsets}
        self.memory.current = None if self._current is None else self._current.note
        self.memory.candidate = None if self._candidate is None else self._candidate.note
        if self._state.state == "certified":
            self._pace()
        self._tell(
            generation=self._current.number if self._current else self._state.generation,
            proxy=None if self._current is None else self._current.note.proxy,
            candidate=None if self._candidate is None else self._candidate.note.proxy,
            vetoed=() if self._current is None else self._current.note.vetoed,
            taught=self.sights.teaching,
            at=moment(self._now),
            asked_twice=self.memory.twice.asked,
            differed_twice=self.memory.twice.differed,
            checkpoint=self.memory.model_dump(mode="json"),
        )
        return self._state

    @property
    def now_state(self) -> CascadeState:
        """As it was published, or is about to be."""
        return self._state

    @property
    def certain_rate(self) -> float:
        """The share of texts, by `is_audited`, that were audited all the time since a proxy decides. Of the
        others some came to the model only because a proxy was unsure.
        """
        return self._state.audit_rate if self.memory.least_rate is None else self.memory.least_rate

    # --- inside ---

    @property
    def _now(self) -> int:
        return int(self._clock() * 1_000_000)

    def _scheduled(self) -> None:
        """Generations for which there were texts enough already are left out: each has its share of the
        risk.
        """
        self.memory.fits += 1
        while fit_at(self.memory.fits + 1) <= self.sights.teaching:
            self.memory.fits += 1

    def _risk_of(self, generation: int) -> float:
        return risk_of(self._limits.risk, generation)

    def _tell(self, **changes: Any) -> None:
        self._state = self._state.model_copy(update=changes)

    def _is_uniform(self, text: str) -> bool:
        return self.memory.deciding_since is None or is_audited(self.version, text, self.certain_rate)

    def _was_free(self, digest: str) -> bool:
        """Whether no proxy had a say in which model labelled this text."""
        one, since = self._judged[digest], self.memory.deciding_since
        return since is None or one.at < since or is_audited(self.version, one.text, self.certain_rate)

    def _keep_routed(self, digest: str) -> None:
        self._routed[digest] = None
        if len(self._routed) > _MOST_ROUTED:
            self._routed.pop(next(iter(self._routed)))

    def _saw_late(self, one: Seen) -> None:
        """A worker that did not know of the revocation: what it labelled is repaired, too."""
        if one.generation is not None and one.generation <= self.memory.revoked and self.memory.repaired:
            self.memory.repaired, self.unsaved = False, True

    def _watch(self, new: Sequence[Sight]) -> int:
        """Show the generations new texts; returns how many of them the proxy would label."""
        texts = [sight.text for sight in new]
        if self._candidate is not None:
            decisions = self._candidate.proxy.decide(texts)
            self._choose_twice(self._candidate, new, decisions)
            self._candidate.observe(new, decisions)
        if self._current is None or not new:
            return 0
        decisions = self._current.proxy.decide(texts)
        if self._candidate is None:
            self._choose_twice(self._current, new, decisions)
        self._current.observe(new, decisions)
        threshold = self._state.threshold
        if self._state.state != "certified" or threshold is None:
            return 0
        routable = 0
        for sight, decision in zip(new, decisions, strict=True):
            if self._current.score_of(decision) >= threshold:
                routable += 1
                if self.memory.deciding_since is None or is_audited(
                    self.version, sight.text, self._state.audit_rate
                ):
                    self._audit(sight, decision.label)
        return routable

    def _choose_twice(
        self, newest: LearnedGeneration, new: Sequence[Sight], decisions: Sequence[ProxyDecision]
    ) -> None:
        """Of the texts that it is surest of, where the model differs from itself least, some are asked again:
        what is found counts for the next generation, which they teach.
        """
        surest = max(newest.note.llm.thresholds, default=None)
        if surest is None:
            return
        for sight, decision in zip(new, decisions, strict=True):
            many = self.memory.twice.asked + len(self._asking_twice) + len(self._to_ask_twice)
            if (
                many < most_twice(len(self.sights))
                and sight.uniform
                and not sight.drawn
                and newest.score_of(decision) >= surest
                and is_asked_twice(self.version, sight.text)
            ):
                self._to_ask_twice[text_digest(sight.text)] = sight

    def _audit(self, sight: Sight, label: str) -> None:
        assert self.memory.monitor is not None
        monitor = self.memory.monitor.observe(label, label != sight.label)
        self.memory.monitor = monitor
        self._tell(audits=self._state.audits + 1)
        if monitor.overall <= 1.0:
            self.memory.clean["*"] = sight.at
        if monitor.labels[label] <= 1.0:
            self.memory.clean[label] = sight.at

    def _settle(self) -> None:
        """Certify, improve, promote or revoke, by what has been observed."""
        if self.memory.monitor is not None and (alarms := self.memory.monitor.alarms):
            self._revoke(alarms)
        elif self._current is not None:
            self._certify(self._current)
            if self._candidate is not None:
                self._promote(self._candidate)

    def _certify(self, generation: LearnedGeneration) -> None:
        found = generation.certified(self._limits.margin)
        if found is None:
            # Against the model, the monitor sees the same rows, and has them repaired if it must.
            refused = generation.note.refused is not None
            if self._state.state == "certified" and (refused or self._state.certified_against == "people"):
                self._pause()
            return
        if self._state.state == "certified" and found.threshold == self._state.threshold:
            return
        if self._state.state == "revoked":
            return
        first = self._state.state != "certified"
        self._tell(
            state="certified",
            generation=generation.number,
            threshold=found.threshold,
            certified_against=found.against,
            bound=found.bound,
            coverage=generation.coverage(found.threshold),
        )
        monitor = generation.monitor(found.threshold)
        if first:
            newest = max((sight.at for _, sight in self.sights), default=self._now)
            if not self._limits.deciding:
                self.memory.deciding_since = None
            elif self.memory.deciding_since is None:  # else it was paused
                self.memory.deciding_since, self.memory.least_rate = newest, MOST
            self.memory.clean = {}
            self._tell(
                certified_at=moment(self._now),
                clean_until=None,
                audit_rate=MOST,
                **dict.fromkeys(("audits", "texts", "routable", "routed"), 0),
            )
        elif self.memory.monitor is not None:
            before = self.memory.monitor
            monitor = monitor.model_copy(
                update={"overall": before.overall, "labels": before.labels, "rows": before.rows}
            )
        self.memory.monitor = monitor
        self.unsaved = self.urgent = True

    def _pause(self) -> None:
        """By what people say now no threshold is well within the margin: the model labels all."""
        self.memory.monitor = None
        self._tell(
            state="learning",
            threshold=None,
            coverage=None,
            certified_against=None,
            bound=None,
            audit_rate=MOST,
        )
        self.unsaved = self.urgent = True

    def _promote(self, candidate: LearnedGeneration) -> None:
        found = candidate.certified(self._limits.margin)
        assert self._current is not None
        now = self._current.coverage(self._state.threshold or 0.0)
        if found is None or candidate.coverage(found.threshold) <= now:
            return
        self._current, self._candidate = candidate, None
        self._tell(generation=candidate.number, threshold=None)
        self.memory.monitor = None
        self._certify(candidate)

    def _revoke(self, alarms: Sequence[str]) -> None:
        clean = [self.memory.clean.get(name) for name in alarms]
        certified = self._state.certified_at
        until = min(moment(at) for at in clean if at) if all(clean) else certified
        what = ", ".join("all labels" if name == "*" else name for name in alarms)
        since = self._now if until is None else micros_of(until)
        self._forget(since)
        self._tell(
            state="revoked",
            threshold=None,
            revoked_at=moment(self._now),
            revoked_why=f"the model's labels differ more often than they did: {what}",
            clean_until=until,
        )
        self.memory.revoked = self.memory.generation
        pending = None if self.memory.repaired else self.memory.repair_since
        self.memory.repair_since = since if pending is None else min(since, pending)
        self.memory.repaired = self.memory.repaired and not self._limits.deciding
        self.unsaved = self.urgent = True

    def _forget(self, since: int) -> None:
        """Nothing of before ``since`` teaches any more, and the schedule begins anew."""
        self._current = self._candidate = None
        self.memory.monitor = self.memory.deciding_since = None
        self.memory.fits, self.memory.since = 0, since
        # What people said of older labels is no evidence of a model that labels otherwise now.
        self.memory.judged, self._judged = [], {}
        self.memory.twice = AskedTwice()
        self._to_ask_twice.clear()
        self._asking_twice.clear()
        self.memory.clean = {}
        left = [sight for _, sight in self.sights if sight.at >= since]
        self.sights = Sights(self.version)
        self.remember(left)
        self._tell(threshold=None, coverage=None, certified_against=None, bound=None, audit_rate=MOST)

    def _pace(self) -> None:
        """How many are audited from now on."""
        now = self._clock()
        while self._arrivals and self._arrivals[0][0] < now - _WINDOW_SECONDS:
            self._arrivals.popleft()
        seconds = min(max(now - self._began, _LEAST_SECONDS), _WINDOW_SECONDS)
        speed = sum(count for _, count in self._arrivals) / seconds
        state = self._state
        measured = state.routable / state.texts if state.texts >= _ENOUGH else state.coverage or 0.0
        wanted = audit_rate(self._limits.delay, speed, measured)
        rate = state.audit_rate
        if wanted.rate > rate * _RATE_CHANGE or wanted.rate * _RATE_CHANGE < rate:
            rate = wanted.rate
            self.memory.least_rate = min(self.certain_rate, rate)
        minutes = wanted.minutes * wanted.rate / rate
        self._tell(
            coverage=measured,
            audit_rate=rate,
            delay_minutes=round(minutes, 1) if minutes != float("inf") else None,
        )
