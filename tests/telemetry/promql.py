"""The part of PromQL that our dashboards and alerts use, over pages of metrics that were read.

Parsed by a real parser, evaluated here. It differs from Prometheus in one thing: `rate` and
`increase` are what lies between the first and the last sample of their range, not stretched to its
ends. What it does not know raises NotImplementedError.
"""

from __future__ import annotations

import math
import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import promql_parser
from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
Value = float | Vector

_NAME: Final = "__name__"
_ARITHMETIC: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: left / right if right else math.nan,
}
_COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
}
_FOLDS: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "sum": sum,
    "max": max,
    "min": min,
    "count": len,
    "avg": lambda values: sum(values) / len(values),
}


@dataclass
class Scrapes:
    """Pages of metrics, each with the time in s when it was read."""

    pages: list[tuple[float, Mapping[str, Vector]]] = field(default_factory=list)

    def add(self, at_s: float, page: str | None) -> None:
        """Takes a page in, and that it was there, as Prometheus does; None: nobody answered."""
        read: dict[str, Vector] = defaultdict(dict)
        for family in text_string_to_metric_families(page or ""):
            for sample in family.samples:
                read[sample.name][frozenset(sample.labels.items())] = sample.value
        read["up"] = {frozenset({("job", "standings")}): float(page is not None)}
        self.pages.append((at_s, read))

    @property
    def names(self) -> set[str]:
        """The names of all samples on any page."""
        return {name for _, page in self.pages for name in page}

    def moved(self, name: str) -> bool:
        """Whether any series of that name was ever told to be something else than before; one
        that is not told yet is 0.
        """
        last: Vector = {}
        for _, page in self.pages:
            told = page.get(name, {})
            if any(value != last.get(labels, 0.0) for labels, value in told.items()):
                return True
            last |= told
        return False

    def evaluate(self, expression: str, at_s: float) -> Vector:
        """What an expression gives at a time; a scalar as a vector of one without labels."""
        value = _Evaluation(self, at_s).value(promql_parser.parse(expression))
        return {frozenset(): value} if isinstance(value, float) else value


def names_in(expression: str) -> set[str]:
    """The names of metrics in an expression. Raises ValueError where it does not parse."""
    return {selector.name for selector in _selectors(promql_parser.parse(expression))}


def _selectors(node: Any) -> Iterator[promql_parser.VectorSelector]:
    match node:
        case promql_parser.VectorSelector():
            yield node
        case promql_parser.MatrixSelector():
            yield node.vector_selector
        case promql_parser.BinaryExpr():
            yield from _selectors(node.lhs)
            yield from _selectors(node.rhs)
        case promql_parser.Call():
            for argument in node.args:
                yield from _selectors(argument)
        case promql_parser.AggregateExpr() | promql_parser.ParenExpr():
            yield from _selectors(node.expr)
        case promql_parser.NumberLiteral():
            return
        case _:
            raise NotImplementedError(type(node).__name__)


@dataclass
class _Evaluation:
    scrapes: Scrapes
    at_s: float

    def value(self, node: Any) -> Value:
        match node:
            case promql_parser.NumberLiteral():
                return float(node.val)
            case promql_parser.ParenExpr():
                return self.value(node.expr)
            case promql_parser.VectorSelector():
                return self._instant(node)
            case promql_parser.AggregateExpr():
                return self._aggregate(node)
            case promql_parser.BinaryExpr():
                return self._binary(str(node.op).strip(), node)
            case promql_parser.Call():
                return self._call(node)
        raise NotImplementedError(type(node).__name__)

    def _instant(self, selector: Any) -> Vector:
        page: Mapping[str, Vector] = {}
        for at_s, one in self.scrapes.pages:
            if at_s <= self.at_s:
                page = one
        return _matching(selector, page)

    def _increases(self, matrix: Any, *, per_second: bool) -> Vector:
        first_s = self.at_s - matrix.range.total_seconds()
        samples: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
        for at_s, page in self.scrapes.pages:
            if first_s < at_s <= self.at_s:
                for labels, value in _matching(matrix.vector_selector, page).items():
                    samples[labels].append((at_s, value))
        found = {}
        for labels, series in samples.items():
            if len(series) > 1:
                # A counter that has fallen began anew.
                steps = [(b - a) if b >= a else b for (_, a), (_, b) in pairwise(series)]
                seconds = series[-1][0] - series[0][0]
                found[labels] = sum(steps) / (seconds if per_second else 1)
        return found

    def _aggregate(self, node: Any) -> Vector:
        vector = self.value(node.expr)
        assert isinstance(vector, dict)
        modifier = node.modifier
        if modifier is not None and "By" not in str(modifier.type):
            raise NotImplementedError("without")
        kept = set(modifier.labels) if modifier is not None else set()
        groups: dict[Labels, list[float]] = defaultdict(list)
        for labels, value in vector.items():
            groups[frozenset(pair for pair in labels if pair[0] in kept)].append(value)
        fold = _FOLDS[str(node.op).strip()]
        return {labels: float(fold(values)) for labels, values in groups.items()}

    def _call(self, node: Any) -> Value:
        match node.func.name:
            case "rate":
                return self._increases(node.args[0], per_second=True)
            case "increase":
                return self._increases(node.args[0], per_second=False)
            case "vector":
                return {frozenset(): float(node.args[0].val)}
            case "histogram_quantile":
                vector = self.value(node.args[1])
                assert isinstance(vector, dict)
                return _quantile(float(node.args[0].val), vector)
        raise NotImplementedError(node.func.name)

    def _binary(self, sign: str, node: Any) -> Value:
        left, right = self.value(node.lhs), self.value(node.rhs)
        if sign == "or":
            assert isinstance(left, dict)
            assert isinstance(right, dict)
            return right | left
        if node.modifier is not None:
            raise NotImplementedError("modifiers of binary operators")
        if isinstance(left, float) and isinstance(right, float):
            return _ARITHMETIC[sign](left, right)
        pairs = _paired(left, right)
        if sign in _COMPARISONS:
            holds = _COMPARISONS[sign]
            return {labels: one for labels, (one, other) in pairs.items() if holds(one, other)}
        return {labels: _ARITHMETIC[sign](*pair) for labels, pair in pairs.items()}


def _paired(left: Value, right: Value) -> Mapping[Labels, tuple[float, float]]:
    if isinstance(left, float):
        assert isinstance(right, dict)
        return {labels: (left, value) for labels, value in right.items()}
    if isinstance(right, float):
        return {labels: (value, right) for labels, value in left.items()}
    return {labels: (left[labels], right[labels]) for labels in left.keys() & right.keys()}


def _matching(selector: Any, page: Mapping[str, Vector]) -> Vector:
    return {
        labels: value
        for labels, value in page.get(selector.name, {}).items()
        if all(_matches(matcher, dict(labels)) for matcher in selector.matchers.matchers)
    }


def _matches(matcher: Any, labels: Mapping[str, str]) -> bool:
    value, kind = labels.get(matcher.name, ""), str(matcher.op).rpartition(".")[2]
    match kind:
        case "Equal":
            return value == matcher.value
        case "NotEqual":
            return value != matcher.value
        case "Re":
            return re.fullmatch(matcher.value, value) is not None
        case "NotRe":
            return re.fullmatch(matcher.value, value) is None
    raise NotImplementedError(kind)


def _quantile(quantile: float, vector: Vector) -> Vector:
    """As Prometheus has it: within a bucket, in proportion."""
    groups: dict[Labels, list[tuple[float, float]]] = defaultdict(list)
    for labels, value in vector.items():
        (bound,) = (float(text) for name, text in labels if name == "le")
        groups[frozenset(pair for pair in labels if pair[0] != "le")].append((bound, value))
    return {labels: _quantile_of(quantile, sorted(buckets)) for labels, buckets in groups.items()}


def _quantile_of(quantile: float, buckets: Sequence[tuple[float, float]]) -> float:
    rank = quantile * buckets[-1][1]
    if not rank:
        return math.nan
    lower, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (rank - below) / (count - below)
        lower, below = bound, count
    return lower
