"""The bootstrap: how often each row is drawn, where as many rows are drawn with return. The seed is fixed, so
that equal rows give equal intervals.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from streams.quality.estimates import Floats

_SEED = 20_260_101
_DRAWS, _FEWEST = 1_000, 200
# So many random rows are drawn at most, over all draws, and so many are held at once.
_WORK, _AT_ONCE = 5_000_000, 500_000


def resamples(rows: int) -> Iterator[Floats]:
    """Counts by draw and row, some draws at a time; 1,000 draws, and as few as 200 of very many rows."""
    random = np.random.default_rng(_SEED)
    left = min(_DRAWS, max(_FEWEST, _WORK // rows))
    while left:
        draws = min(left, max(1, _AT_ONCE // rows))
        chosen = random.integers(0, rows, (draws, rows)) + np.arange(draws)[:, None] * rows
        yield np.bincount(chosen.ravel(), minlength=draws * rows).reshape(draws, rows).astype(float)
        left -= draws
