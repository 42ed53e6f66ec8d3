"""Evaluates as much of PromQL as our alert rules use, over the example series of a promtool test file.

A stand-in for Prometheus: rates are taken between the first and the last sample of the range, without
Prometheus' extrapolation to its edges. Enough to see which series an expression picks and compares.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import promql_parser as pp

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
_NAME = "__name__"
_OPERATORS: dict[str, Callable[[float, float], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda a, b: a / b if b else float("nan"),
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
_COMPARISONS = {">", "<", "==", "!=", ">=", "<="}


class Series:
    """Example series: one value a step, from time 0."""

    def __init__(self, step: float, given: Iterable[dict[str, str]]) -> None:
        self.step = step
        self.values: dict[Labels, list[float]] = {}
        for one in given:
            selector = pp.parse(one["series"])
            assert isinstance(selector, pp.VectorSelector)
            labels = {_NAME: selector.name, **{m.name: m.value for m in selector.matchers.matchers}}
            self.values[frozenset(labels.items())] = list(_expanded(one["values"]))

    def instant(self, at: float, wanted: Callable[[dict[str, str]], bool]) -> Vector:
        """The newest value of each series, at most five minutes old."""
        found: Vector = {}
        for labels, values in self.values.items():
            index = min(int(at // self.step), len(values) - 1)
            if wanted(dict(labels)) and at - index * self.step <= 300:
                found[labels] = values[index]
        return found

    def between(
        self, start: float, end: float, wanted: Callable[[dict[str, str]], bool]
    ) -> dict[Labels, list[tuple[float, float]]]:
        """The samples of each series from ``start`` to ``end``."""
        return {
            labels: [
                (index * self.step, value)
                for index, value in enumerate(values)
                if start <= index * self.step <= end
            ]
            for labels, values in self.values.items()
            if wanted(dict(labels))
        }


def _expanded(text: str) -> Iterable[float]:
    for part in text.split():
        found = re.fullmatch(r"(-?[\d.]+)(?:([+-][\d.]+))?(?:x(\d+))?", part)
        assert found, part
        first, growth, times = float(found[1]), float(found[2] or 0), int(found[3] or 0)
        yield from (first + growth * n for n in range(times + 1))


def seconds_of(text: str) -> float:
    """Seconds in a duration such as `5m`."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([smhd])", text))


def evaluate(expression: Any, series: Series, at: float) -> Vector | float:
    """The value of a parsed ``expression`` at a time, in seconds."""
    match expression:
        case pp.NumberLiteral():
            return float(expression.val)
        case pp.ParenExpr():
            return evaluate(expression.expr, series, at)
        case pp.VectorSelector():
            return series.instant(at, _wanted(expression))
        case pp.AggregateExpr():
            return _aggregate(expression, _vector(evaluate(expression.expr, series, at)))
        case pp.Call():
            return _call(expression, series, at)
        case pp.BinaryExpr():
            return _binary(expression, series, at)
    raise NotImplementedError(type(expression).__name__)


def _wanted(selector: Any) -> Callable[[dict[str, str]], bool]:
    tests = [(_NAME, "=", selector.name)]
    for matcher in selector.matchers.matchers:
        tests.append((matcher.name, str(matcher.op).rsplit(".", 1)[-1], matcher.value))

    def wanted(labels: dict[str, str]) -> bool:
        for name, op, value in tests:
            given = labels.get(name, "")
            same = bool(re.fullmatch(value, given)) if op in ("Re", "NotRe", "=~", "!~") else given == value
            if same == (op in ("NotEqual", "NotRe", "!=", "!~")):
                return False
        return True

    return wanted


def _aggregate(expression: Any, vector: Vector) -> Vector:
    kept = set(expression.modifier.labels) if expression.modifier else set()
    groups: defaultdict[Labels, list[float]] = defaultdict(list)
    for labels, value in vector.items():
        groups[frozenset((k, v) for k, v in labels if k in kept)].append(value)
    fold = {"sum": sum, "max": max, "min": min}[str(expression.op)]
    return {labels: float(fold(values)) for labels, values in groups.items()}


def _call(call: Any, series: Series, at: float) -> Vector | float:
    name, arguments = call.func.name, call.args
    if name == "time":
        return float(at)
    if name == "absent":
        selector = arguments[0]
        if _vector(evaluate(selector, series, at)):
            return {}
        return {frozenset((m.name, m.value) for m in selector.matchers.matchers): 1.0}
    if name in ("rate", "increase"):
        matrix = arguments[0]
        length = matrix.range.total_seconds()
        found: Vector = {}
        for labels, samples in series.between(at - length, at, _wanted(matrix.vector_selector)).items():
            if len(samples) > 1:
                (first_at, first), (last_at, last) = samples[0], samples[-1]
                grown = (last - first) / (last_at - first_at)
                found[_nameless(labels)] = grown if name == "rate" else grown * length
        return found
    if name == "histogram_quantile":
        return _quantile(float(arguments[0].val), _vector(evaluate(arguments[1], series, at)))
    raise NotImplementedError(name)


def _quantile(q: float, buckets: Vector) -> Vector:
    groups: defaultdict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, value in buckets.items():
        rest = frozenset((k, v) for k, v in labels if k != "le")
        groups[rest].append((float(dict(labels)["le"]), value))
    found: Vector = {}
    for labels, pairs in groups.items():
        pairs.sort()
        rank = q * pairs[-1][1]
        below, start = 0.0, 0.0
        for bound, count in pairs:
            if count >= rank:
                share = (rank - below) / (count - below) if count > below else 0.0
                found[labels] = start if bound == float("inf") else start + (bound - start) * share
                break
            below, start = count, bound
    return found


def _binary(expression: Any, series: Series, at: float) -> Vector | float:
    op = str(expression.op)
    left, right = evaluate(expression.lhs, series, at), evaluate(expression.rhs, series, at)
    if op == "or":
        return {**_vector(right), **_vector(left)}
    work, filters = _OPERATORS[op], op in _COMPARISONS
    if isinstance(left, float) and isinstance(right, float):
        return float(work(left, right))
    pairs: list[tuple[Labels, float, float]]
    if isinstance(left, float):
        pairs = [(labels, left, value) for labels, value in _vector(right).items()]
    elif isinstance(right, float):
        pairs = [(labels, value, right) for labels, value in left.items()]
    else:
        others = {_nameless(labels): value for labels, value in right.items()}
        pairs = [
            (labels, value, others[_nameless(labels)])
            for labels, value in left.items()
            if _nameless(labels) in others
        ]
    if filters:
        return {labels: a for labels, a, b in pairs if work(a, b)}
    return {_nameless(labels): float(work(a, b)) for labels, a, b in pairs}


def _nameless(labels: Labels) -> Labels:
    return frozenset((k, v) for k, v in labels if k != _NAME)


def _vector(value: Vector | float) -> Vector:
    return {frozenset(): value} if isinstance(value, float) else value


def firing(rule: dict[str, Any], series: Series, at: float, every: float) -> list[dict[str, str]]:
    """The labels of the alerts that ``rule`` raises at a time, having held for as long as it asks."""
    expression, holds_for = pp.parse(rule["expr"]), seconds_of(rule["for"])
    since: dict[Labels, float] = {}
    for step in itertools.count():
        now = step * every
        if now > at:
            break
        holding = {_nameless(labels) for labels in _vector(evaluate(expression, series, now))}
        since = {labels: since.get(labels, now) for labels in holding}
    return [{**dict(labels), **rule["labels"]} for labels, first in since.items() if at - first >= holds_for]
