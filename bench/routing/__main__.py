"""What does a proxy's decision cost the label step? ``python -m bench.routing [--json]``.

A proxy of 30 labels, taught made-up texts, decides about others through the agents' router: one text at a
time, and as many at once as a worker with calls in flight has. CPU of this process, all threads.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence

from agents.proxy.fit import fit
from bench.harness import cpu_seconds, options, report

_LABELS, _TAUGHT, _WORDS_A_LABEL, _WORDS = 30, 900, 12, 8
_AT_ONCE = (1, 8, 32)
_LETTERS = "абвгдежзиклмнопрстуфхцчшыэюя"


def texts(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Distinct texts of eight words, some of them of their label, and the labels."""
    fixed, chance = random.Random(0), random.Random(seed)

    def word() -> str:
        return "".join(fixed.choices(_LETTERS, k=fixed.randint(3, 9)))

    common = [word() for _ in range(300)]
    own = [[word() for _ in range(_WORDS_A_LABEL)] for _ in range(_LABELS)]
    found, labels = [], []
    for number in range(count):
        label = number % _LABELS
        words = [*chance.choices(own[label], k=3), *chance.choices(common, k=_WORDS - 3)]
        chance.shuffle(words)
        found.append(" ".join(words))
        labels.append(f"label_{label}")
    return found, labels


def cost(packed: bytes, at_once: int, count: int) -> dict[str, float]:
    """Of ``count`` texts, ``at_once`` at a time."""
    return asyncio.run(_cost(packed, at_once, count))


async def _cost(packed: bytes, at_once: int, count: int) -> dict[str, float]:
    from agents.routing import Router
    from streams.core.cascade import CascadeState, ProxyRef

    state = CascadeState(
        version="v",
        state="certified",
        generation=1,
        proxy=ProxyRef.of(1, packed),
        threshold=0.5,
        audit_rate=0.1,
    )
    router = Router(lambda: state, lambda: (1, packed), on=True, counts=Counter())
    some, _ = texts(count, 2)
    await _route(router, some[:at_once])  # loads it
    began = cpu_seconds()
    for first in range(0, count, at_once):
        await _route(router, some[first : first + at_once])
    return {"CPU ms a text": (cpu_seconds() - began) / count * 1000, "proxy MB": len(packed) / 1e6}


async def _route(router: object, some: Sequence[str]) -> None:
    from agents.routing import Router

    assert isinstance(router, Router)
    await asyncio.gather(*(router.route(text) for text in some))


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--texts", type=int, default=3_200)
    chosen = parser.parse_args()
    packed = fit(*texts(_TAUGHT, 1)).pack()
    figures = [(f"{n} at once", cost(packed, n, chosen.texts)) for n in _AT_ONCE]
    by = {name: found["CPU ms a text"] for name, found in figures}
    report(
        "a proxy's decision",
        figures,
        as_json=chosen.json,
        ratios={
            "CPU ms a text routed alone": by["1 at once"],
            "CPU ms a text routed, 8 at once": by["8 at once"],
        },
    )


if __name__ == "__main__":
    main()
