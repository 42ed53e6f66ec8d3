"""A fitted proxy: which label it gives a text, how sure it is, and whether it knows such texts.

All workers and replays must decide the same, on other machines and in other batches too. So nothing here
depends on the order of a floating point sum or on a library of mathematics: weights are whole numbers, sums
are of whole numbers, exponentials are read from a table of them; what is left is single operations, whose
rounding IEEE 754 fixes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from functools import cache
from hashlib import blake2b
from typing import NamedTuple, Self

import numpy as np
import orjson
from numpy.typing import NDArray

from agents.proxy.features import FEATURES, KNOWN_BITS, Features, features_of, ngrams_of
from streams.core.errors import UndecodableError

MOST_BYTES = 4_000_000
_MAGIC = b"lsproxy1"
_STEPS = 1024  # a logit's, in the table of exponentials
_ONE = 1 << 40
# Texts of one pass: their n-grams' weights are in memory at once.
_BATCH = 64


class ProxyDecision(NamedTuple):
    """``score``: the label's probability, 0..1, as calibrated on texts that were not fitted on. ``known``:
    whether enough of the text's n-grams were taught; without it the label is not to be used.
    """

    label: str
    score: float
    known: bool

    def routing_score(self, vetoed: Collection[str]) -> float:
        """The score by which the text is routed: 0 if a veto or the novelty gate keeps it from being."""
        return self.score if self.known and self.label not in vetoed else 0.0


@dataclass(frozen=True, eq=False)
class Proxy:
    """A linear classifier over hashed n-grams.

    ``weights``: whole numbers, FEATURES x labels; ``scales`` and ``biases``: a label's; the logit is the sum
    of the text's weights x scale / the root of the sum of its ``norms`` + bias. ``known``: KNOWN_BITS bits,
    packed; ``known_share``: which share of a text's n-grams must be among them.
    """

    labels: tuple[str, ...]
    weights: NDArray[np.int8]
    scales: NDArray[np.float64]
    biases: NDArray[np.float64]
    norms: NDArray[np.uint16]
    known: NDArray[np.uint8]
    known_share: float

    def decide(self, texts: Sequence[str]) -> list[ProxyDecision]:
        """One decision a text, in order; of ties the label that is first."""
        decisions: list[ProxyDecision] = []
        for at in range(0, len(texts), _BATCH):
            decisions += self._decided(features_of(texts[at : at + _BATCH]))
        return decisions

    def _decided(self, found: Features) -> list[ProxyDecision]:
        logits = self.logits(found)
        best = logits.argmax(axis=1)
        behind = (logits[np.arange(len(best)), best][:, None] - logits) * _STEPS
        table = _exponentials()
        shares = table[np.minimum(behind, len(table) - 1).astype(np.int64)].sum(axis=1)
        scores = (_ONE / shares).tolist()
        known = self.known_shares(found) >= self.known_share
        return [
            ProxyDecision(self.labels[label], score, knows)
            for label, score, knows in zip(best.tolist(), scores, known.tolist(), strict=True)
        ]

    def logits(self, found: Features) -> NDArray[np.float64]:
        """Texts x labels."""
        starts = found.starts[:-1]
        sums = np.add.reduceat(self.weights[found.feature], starts, axis=0, dtype=np.int32)
        norms = np.sqrt(np.add.reduceat(self.norms[found.feature], starts, dtype=np.int64))
        return sums * self.scales / norms[:, None] + self.biases

    def known_shares(self, found: Features) -> NDArray[np.float64]:
        """Of each text's n-grams those that were taught; 0 where there are none, and of a text that is too
        long.
        """
        bits = self.known[found.seen >> 3] >> (found.seen & 7).astype(np.uint8) & 1
        counts = np.concatenate(([0], np.cumsum(bits, dtype=np.int64)))
        hits = counts[found.seen_starts[1:]] - counts[found.seen_starts[:-1]]
        of = np.diff(found.seen_starts)
        return np.where(found.cut, 0.0, hits / np.maximum(of, 1))

    def spoke_for(self, text: str, label: str, most: int = 8) -> list[tuple[str, float]]:
        """The n-grams of ``text`` that add most to the logit of ``label``, and what each adds, greatest
        first. N-grams that share a feature are each named with all of it.

        Raises:
            ValueError: the proxy has no such label.
        """
        at = self.labels.index(label)
        grams = ngrams_of(text)
        norm = math.sqrt(sum(int(self.norms[feature]) for feature in set(grams.values())))
        weighed = (
            (gram, int(self.weights[feature, at]) * float(self.scales[at]) / norm)
            for gram, feature in grams.items()
        )
        return sorted(weighed, key=lambda one: (-one[1], one[0]))[:most]

    def pack(self) -> bytes:
        """The bytes of which `unpack` makes the same proxy; equal proxies give equal bytes."""
        head = orjson.dumps(
            {
                "labels": self.labels,
                "scales": self.scales.tolist(),
                "biases": self.biases.tolist(),
                "known_share": self.known_share,
            }
        )
        # Label after label: neighbours are alike, which packs better.
        body = zlib.compress(
            self.weights.T.tobytes() + self.norms.astype("<u2").tobytes() + self.known.tobytes(), 9
        )
        content = struct.pack("<I", len(head)) + head + body
        return _MAGIC + blake2b(content, digest_size=16).digest() + content

    @classmethod
    def unpack(cls, packed: bytes) -> Self:
        """What `pack` has packed.

        Raises:
            UndecodableError: it is damaged, or of a format that this release does not know.
        """
        if packed[:7] != _MAGIC[:7]:
            raise UndecodableError("a proxy cannot be read: it does not begin as a proxy does")
        if packed[:8] != _MAGIC:
            raise UndecodableError(
                f"a proxy cannot be read: its format is {packed[7:8]!r}; this release reads {_MAGIC[7:]!r}"
            )
        digest, content = packed[8:24], packed[24:]
        if blake2b(content, digest_size=16).digest() != digest:
            raise UndecodableError("a proxy cannot be read: its bytes do not fit their digest")
        (length,) = struct.unpack_from("<I", content)
        head = orjson.loads(content[4 : 4 + length])
        body = zlib.decompress(content[4 + length :])
        labels = tuple(head["labels"])
        of_weights, of_norms = FEATURES * len(labels), FEATURES * 2
        if len(body) != of_weights + of_norms + KNOWN_BITS // 8:
            raise UndecodableError(
                f"a proxy cannot be read: its weights have {len(body)} bytes for {len(labels)} labels"
            )
        weights = np.frombuffer(body, np.int8, of_weights).reshape(len(labels), FEATURES)
        return cls(
            labels=labels,
            weights=np.ascontiguousarray(weights.T),
            scales=np.array(head["scales"], np.float64),
            biases=np.array(head["biases"], np.float64),
            norms=np.frombuffer(body, "<u2", FEATURES, of_weights).astype(np.uint16),
            known=np.frombuffer(body, np.uint8, KNOWN_BITS // 8, of_weights + of_norms),
            known_share=float(head["known_share"]),
        )


@cache
def _exponentials() -> NDArray[np.int64]:
    """Of -n / _STEPS, in units of 1 / _ONE, down to nothing."""
    with localcontext(prec=60):
        step = int((Decimal(-1) / _STEPS).exp() * (1 << 120))
    value, table = 1 << 120, []
    for _ in range(30 * _STEPS):
        table.append(value >> 80)
        value = value * step >> 120
    return np.array(table, np.int64)
