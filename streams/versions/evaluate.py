"""`labelstream evaluate`: compares a label version with a gold set."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.queries.label_versions import list_versions
from connectors.clickhouse.queries.review import labels_of_texts, labels_under
from streams.core.errors import RefusedError
from streams.core.settings import Settings
from streams.versions.scores import GoldRow, read_gold, scores


async def evaluate(settings: Settings, gold: Path, version: str | None) -> dict[str, Any]:
    """How well ``version`` (None: the current one) agrees with the gold set in the file ``gold``.

    Raises:
        ConfigurationError: the file cannot be read.
        RefusedError: there is no such version, or none at all.
        UnavailableError.
    """
    rows = read_gold(gold, settings)
    async with ClickHouseClient.from_settings(settings) as client:
        if version is None:
            known = await list_versions(client, settings)
            version = next((one.version for one in known if one.current), None)
            if version is None:
                raise RefusedError("there is no current label version", reason="unknown-version")
        by_id = [one.row_id for one in rows if one.text is None]
        found = await labels_under(client, settings, version, by_id)
        by_text = [one.text for one in rows if one.text is not None]
        texts = await labels_of_texts(client, settings, version, by_text)
    if not found and not texts:
        raise RefusedError(
            f"label version {version} has no label of any row of {gold}", reason="unknown-version"
        )
    told = scores(
        (one.label, _given(one, found) if one.text is None else texts.get(one.text)) for one in rows
    )
    return {
        "version": version,
        "gold": told.gold,
        "unlabeled": rows.unlabeled,
        "warnings": list(rows.warnings),
        "labeled": told.labeled,
        "right": told.right,
        "accuracy": told.accuracy,
        "macro_f1": told.macro_f1,
        "labels": [
            {
                "label": one.label,
                "support": one.support,
                "given": one.given,
                "right": one.right,
                "precision": one.precision,
                "recall": one.recall,
                "f1": one.f1,
            }
            for one in told.labels
        ],
        "confusion": {right: dict(given) for right, given in told.confusion.items()},
    }


def _given(gold: GoldRow, found: dict[str, dict[datetime, str]]) -> str | None:
    labels = found.get(gold.row_id, {})
    if gold.created_at is not None:
        return labels.get(gold.created_at)
    # Of several rows with one id, the newest.
    return labels[max(labels)] if labels else None
