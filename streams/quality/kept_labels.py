"""How often variants keep the label of their row: how good the augmenting model is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from connectors.clickhouse.queries.watching.verified_variants import VerifiedVariants
from streams.core.times import moment
from streams.quality.estimates import wilson


def kept_labels(since: int | None, found: Sequence[VerifiedVariants]) -> dict[str, Any]:
    """For JSON: all variants, and those of each augmenting model and label, the worst label first.

    ``changed`` is the share that was rejected; its interval (95 %, Wilson) counts each row once, because the
    variants of a row are alike. ``since``: microseconds since 1970.
    """
    return {
        "since": None if since is None else moment(since).isoformat(),
        **_told(found),
        "models": _by("model", found),
        "labels": sorted(_by("label", found), key=lambda one: (-(one["changed"] or 0.0), one["label"])),
    }


def _by(name: str, found: Iterable[VerifiedVariants]) -> list[dict[str, Any]]:
    parts: dict[str, list[VerifiedVariants]] = defaultdict(list)
    for one in found:
        parts[getattr(one, name)].append(one)
    return [{name: part, **_told(some)} for part, some in parts.items() if any(one.verified for one in some)]


def _told(found: Sequence[VerifiedVariants]) -> dict[str, Any]:
    verified = sum(one.verified for one in found)
    rejected = sum(one.changed for one in found)
    variants = rejected + sum(one.kept for one in found)
    share = rejected / variants if variants else None
    low = high = None
    if share is not None:
        lower, upper = wilson(np.array([share]), np.array([float(min(verified, variants))]))
        low, high = float(lower[0]), float(upper[0])
    return {
        "rows": sum(one.rows for one in found),
        "verified": verified,
        "variants": variants,
        "rejected": rejected,
        "changed": share,
        "changed_low": low,
        "changed_high": high,
        "calls": sum(one.calls for one in found),
    }
