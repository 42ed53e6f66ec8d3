"""How many calls a cascade is expected to leave of a job's."""

from __future__ import annotations

from streams.core.cascade import CascadeState

# Texts until a proxy is certified, where all goes well; and the share of texts that one labels then, of
# Russian queries of 18 kinds.
LEARNING_TEXTS = 2_000
USUAL_SHARE = 0.5


def calls_with_cascade(texts: int, state: CascadeState | None) -> int:
    """The calls for so many distinct texts, in random order. ``state``: of the version's cascade; where it is
    not certified yet, the first texts teach, and what follows is a guess.
    """
    if state is not None and state.decides and state.coverage is not None:
        return round(texts * (1 - state.coverage * (1 - state.audit_rate)))
    return round(min(texts, LEARNING_TEXTS) + max(0, texts - LEARNING_TEXTS) * (1 - USUAL_SHARE))
