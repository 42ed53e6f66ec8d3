"""`labelstream discover`: reads a sample of the last days, groups it in a process of its own, and tells."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import orjson

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.watching.recent_texts import RecentText, RecentTexts, recent_texts
from streams.core.errors import ConfigurationError, UnavailableError
from streams.core.settings import Settings
from streams.core.times import moment
from streams.quality.discovery.groups import TextGroup

# Labels that say that no other one fits.
OTHERS = frozenset({"other", "oos", "out_of_scope", "unknown", "none", "другое", "прочее", "иное"})
UNSURE = 0.6
DAYS = 3.0
# Texts of each kind: what the groups are made of, and what they are compared with.
_MOST_TEXTS = 4_000
_MEGABYTES, _PATIENCE_SECONDS = 1_000, 300.0
_EXAMPLES, _LABELS = 6, 3


async def discover(client: ClickHouseClient, settings: Settings, *, days: float = DAYS) -> dict[str, Any]:
    """For JSON: the groups among unsure, "other" and novel rows of the last ``days``, likeliest new first.

    Of a group: ``id`` (the same while its most typical text is), ``size`` and ``before``: rows of the window
    and of the one before, estimated from the sample; ``growth``: their ratio, None where there were none;
    ``labels`` that its texts have now, ``examples`` as stored.

    Raises:
        UnavailableError, ConfigurationError: as the client; no scikit-learn, or too little memory.
    """
    began = time.monotonic()
    found = await recent_texts(client, settings, days=days, unsure=UNSURE, others=OTHERS, most=_MOST_TEXTS)
    groups = [] if found is None else await _grouped(found.texts)
    return {
        "days": days,
        "since": None if found is None else moment(found.between).isoformat(),
        "until": None if found is None else moment(found.until).isoformat(),
        "rows": 0 if found is None else found.rows,
        "doubtful": 0 if found is None else found.doubtful,
        "share": 1.0 if found is None else found.share,
        "groups": [] if found is None else [told_of(one, found) for one in groups],
        "seconds": round(time.monotonic() - began, 1),
    }


def told_of(group: TextGroup, found: RecentTexts) -> dict[str, Any]:
    """A group as `discover` has it, its rows estimated from the sample."""
    texts = [found.texts[place] for place in group.members]
    # The sample has its share of each kind.
    weights = [1.0 / ((found.share if one.doubtful else found.share_of_others) or 1.0) for one in texts]
    now = sum(one.now * weight for one, weight in zip(texts, weights, strict=True))
    before = sum(one.before * weight for one, weight in zip(texts, weights, strict=True))
    sure = [one.confidence for one in texts if one.confidence is not None]
    return {
        "id": blake2b(texts[0].text.encode("utf-8", "replace"), digest_size=4).hexdigest(),
        "size": round(now),
        "before": round(before),
        "growth": None if not before else now / before,
        "texts": len(texts),
        "labels": dict(Counter(one.label for one in texts).most_common(_LABELS)),
        "confidence": sum(sure) / len(sure) if sure else None,
        "examples": [{"row_id": one.row_id, "text": one.text} for one in texts[:_EXAMPLES]],
    }


async def _grouped(texts: Sequence[RecentText]) -> list[TextGroup]:
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "streams.quality.discovery.worker",
        str(_MEGABYTES),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # a traceback may quote a text
        env={name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        | one_thread,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            answer, _ = await process.communicate(orjson.dumps(texts, default=tuple))
    except TimeoutError:
        raise UnavailableError(f"grouping the texts takes longer than {_PATIENCE_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    try:
        told = orjson.loads(answer)
    except orjson.JSONDecodeError:
        raise UnavailableError(
            f"the process that groups the texts has ended with {process.returncode}: "
            "it may have had too little memory"
        ) from None
    if "error" in told:
        raise ConfigurationError(told["error"], fix=told["fix"])
    return [TextGroup(*one) for one in told["groups"]]
