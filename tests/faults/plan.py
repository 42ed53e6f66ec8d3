"""What will happen in a run, made from its seed before it begins: rows, and faults."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

PAUSE_SECONDS = (7.0, 14.0)  # a session is 6 s
LATE_SECONDS = 15  # how old the oldest row is when it is inserted

_STEMS = (
    "не могу войти в личный кабинет",
    "где моя посылка",
    "как оформить возврат товара",
    "списали деньги дважды",
    "курьер не приехал вовремя",
    "забыл пароль от почты",
    "хочу поменять тариф",
    "приложение не открывается",
    "сколько стоит доставка",
    "отмените мой заказ",
    "как подключить автоплатёж",
    "не приходит код подтверждения",
)
_SKIPPED = ("", "ok", "д", "?!", "   ", "\t \n  ", "abc", "\u200b\u200b\u200b")
# Kinds of the stand-in's faults. The second group are answers of a working endpoint that cannot be used.
_OUTAGES: tuple[dict[str, Any], ...] = (
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 503, "retry_after": "1"},
    {"kind": "status", "status": 429},
    {"kind": "status", "status": 429, "retry_after": "2"},
    {"kind": "status", "status": 500},
    {"kind": "hang"},
    {"kind": "drop"},
    {"kind": "cut"},
    {"kind": "garbage"},
    {"kind": "truncated_json"},
    {"kind": "wrong_json"},
    {"kind": "slow", "factor": 100.0},
)
_WRONG_ANSWERS: tuple[dict[str, Any], ...] = (
    {"kind": "unknown_label", "fraction": 0.3},
    {"kind": "bad_answer", "fraction": 0.3},
    {"kind": "truncated_answer", "fraction": 0.3},
)


@dataclass(frozen=True)
class SourceRow:
    """A row to be inserted. ``age``: how many seconds before its insertion it is dated. ``skip``: the length
    rule leaves it out, or nothing is left of it once cleaned."""

    id: int
    text: str
    user: str | None
    age: float
    skip: bool = False


@dataclass(frozen=True)
class Batch:
    """Rows of one insert, ``at`` seconds after the beginning."""

    at: float
    rows: tuple[SourceRow, ...]


@dataclass(frozen=True)
class Fault:
    """``kind``: kill, pause, leave, join, clickhouse, broker or llm. ``seconds``: until it is over."""

    at: float
    kind: str
    target: str
    seconds: float
    detail: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        extra = f" {self.detail}" if self.detail else ""
        return f"{self.at:6.2f} s  {self.kind:<10} {self.target:<10} {self.seconds:5.2f} s{extra}"


@dataclass(frozen=True)
class Plan:
    """A whole run. The same seed and sizes give the same plan."""

    seed: int
    batches: tuple[Batch, ...]
    faults: tuple[Fault, ...]
    time_type: str

    @property
    def rows(self) -> int:
        return sum(len(batch.rows) for batch in self.batches)

    def __str__(self) -> str:
        head = (
            f"seed {self.seed}: {self.rows} rows in {len(self.batches)} inserts, times are {self.time_type}"
        )
        return "\n".join([head, *(str(fault) for fault in self.faults)])


def make_plan(seed: int, rows: int = 2000, seconds: float = 32.0, *, broker: bool = False) -> Plan:
    """``seconds``: how long rows arrive and faults begin. ``broker``: kill Kafka, too."""
    chance = random.Random(f"labelstream {seed} {rows} {seconds} {broker}")
    return Plan(
        seed,
        _batches(chance, rows, seconds),
        _faults(chance, seconds, broker),
        chance.choice(("DateTime", "DateTime64(3, 'Europe/Moscow')", "DateTime('UTC')")),
    )


def _batches(chance: random.Random, rows: int, seconds: float) -> tuple[Batch, ...]:
    ids = list(range(1, rows + 1))
    chance.shuffle(ids)  # ids of a source need not grow
    burst = rows // 6
    texts = [_text(chance, number) for number in range(max(1, rows // 2))]
    weights = [1 / (rank + 1) ** 0.7 for rank in range(len(texts))]
    made: list[Batch] = []
    for at in sorted(chance.uniform(0.2, seconds * 0.9) for _ in range(2)):
        made.append(Batch(at, tuple(_rows(chance, [ids.pop() for _ in range(burst)], texts, weights, 0.0))))
    while ids:
        taken = [ids.pop() for _ in range(min(len(ids), chance.randint(1, max(2, rows // 40))))]
        # Late rows come in inserts of their own and among the newest.
        age = chance.choice((0.0, 0.0, 0.0, chance.uniform(1, LATE_SECONDS)))
        at = chance.uniform(0.0, seconds)
        made.append(Batch(at, tuple(_rows(chance, taken, texts, weights, age))))
    return tuple(sorted(made, key=lambda batch: batch.at))


def _text(chance: random.Random, number: int) -> str:
    return f"{chance.choice(_STEMS)}, обращение {number}"


def _rows(
    chance: random.Random, ids: list[int], texts: list[str], weights: list[float], age: float
) -> list[SourceRow]:
    rows: list[SourceRow] = []
    for number, text in zip(ids, chance.choices(texts, weights, k=len(ids)), strict=True):
        own_age = max(0.0, age - chance.choice((0.0, 0.0, 0.4, 1.1)))
        user = f"user-{number % 17}" if chance.random() < 0.9 else None
        if chance.random() < 0.02:
            rows.append(SourceRow(number, chance.choice(_SKIPPED), user, own_age, skip=True))
        elif rows and not rows[-1].skip and chance.random() < 0.02:
            rows.append(rows[-1])  # an equal row: same id, time, user and text
        else:
            rows.append(SourceRow(number, text, user, own_age))
    return rows


def _faults(chance: random.Random, seconds: float, broker: bool) -> tuple[Fault, ...]:
    def at() -> float:
        return chance.uniform(3.0, seconds)

    def who(role: str) -> str:
        return f"{role}-{chance.randint(1, 2)}"

    def pause() -> float:
        return chance.uniform(*PAUSE_SECONDS)

    made = []
    for role in ("agents", "poller", "sink"):
        made.append(Fault(at(), "kill", who(role), chance.uniform(0.1, 4.0)))
        made.append(Fault(at(), "pause", who(role), pause()))
    made.append(Fault(at(), "clickhouse", "clickhouse", chance.uniform(0.5, 6.0)))
    joined = chance.uniform(3.0, seconds / 2)
    for number in range(3, 3 + chance.randint(1, 2)):
        made.append(Fault(joined + number, "join", f"agents-{number}", 0.0))
        made.append(Fault(joined + number + chance.uniform(4, 9), "leave", f"agents-{number}", 10.0))
    if broker:
        made.append(Fault(at(), "broker", "kafka", chance.uniform(0.5, 8.0)))
    for _ in range(chance.randint(0, 2)):
        made.append(Fault(at(), chance.choice(("kill", "pause")), who("agents"), pause() / 2))
    return tuple(sorted([*made, *_model_faults(chance, seconds)], key=lambda fault: fault.at))


def _model_faults(chance: random.Random, seconds: float) -> list[Fault]:
    """One after the other: the stand-in has one set of faults at a time."""
    kinds = [*chance.sample(_OUTAGES, 4), chance.choice(_WRONG_ANSWERS)]
    chance.shuffle(kinds)
    share = (seconds - 3.0) / len(kinds)
    made = []
    for number, kind in enumerate(kinds):
        length = chance.uniform(0.3, 0.9) * share
        detail = {"fraction": chance.choice((0.3, 1.0)), "seed": chance.randint(0, 999), **kind}
        made.append(Fault(3.0 + number * share, "llm", "llm", min(length, 5.0), detail))
    return made
