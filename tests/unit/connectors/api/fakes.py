"""The API over ports that tests fill: what they answer or raise is set, what they were asked is kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from connectors.api.access.middleware import Observe
from connectors.api.app import Options, create_app
from connectors.api.services import Services
from streams.core.messages import Labeled
from streams.ports.classifier import OnDemand
from streams.ports.label_feed import LiveLabel, LiveSlice, Start
from streams.ports.lookups import LabelPage, LabelQuery, Place, RowHistory

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def labeled(row_id: str = "42", **changes: Any) -> Labeled:
    """A labelled row."""
    fields: dict[str, Any] = {
        "row_id": row_id,
        "text": "где мой заказ",
        "created_at": NOW,
        "polled_at": NOW,
        "label": "delivery",
        "confidence": 0.9,
        "label_version": "v1",
        "model": "m",
        "labeled_at": NOW,
    }
    return Labeled(**(fields | changes))


@dataclass
class Fakes:
    """Implements the ports."""

    rows: dict[str, RowHistory] = field(default_factory=dict)
    page: LabelPage = field(default_factory=lambda: LabelPage([], None))
    asked: list[Any] = field(default_factory=list)
    slices: list[LiveSlice] = field(default_factory=list)
    error: Exception | None = None

    async def health(self, path: str) -> tuple[int, str, bytes]:
        return 200, "text/plain; charset=utf-8", f"{path}\n".encode()

    async def row(self, row_id: str) -> RowHistory | None:
        self._ask(row_id)
        return self.rows.get(row_id)

    async def search(self, query: LabelQuery, after: Place | None, limit: int) -> LabelPage:
        self._ask((query, after, limit))
        return self.page

    async def classify(self, texts: Sequence[str]) -> list[OnDemand]:
        self._ask(list(texts))
        return [OnDemand(text, labeled=labeled(text=text)) for text in texts]

    async def follow(self, start: Start, idle_seconds: float) -> AsyncGenerator[LiveSlice]:
        self._ask(start)
        for one in self.slices:
            yield one

    def _ask(self, what: Any) -> None:
        self.asked.append(what)
        if self.error is not None:
            raise self.error


def client_of(
    fakes: Fakes,
    *,
    peer: str = "127.0.0.1",
    observe: Observe = lambda route, method, status, seconds: None,
    **options: Any,
) -> httpx.AsyncClient:
    """A client of the API over ``fakes``."""
    services = Services(health=fakes.health, lookups=fakes, classifier=fakes, feed=fakes)
    app = create_app(services, Options(**options), observe)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(peer, 1234))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


def item(offset: int, *, partition: int = 0, **changes: Any) -> LiveLabel:
    """A message of the labelled topic."""
    fields: dict[str, Any] = {"data": f'{{"n":{offset}}}'.encode(), "label": "delivery", "confidence": 0.9}
    return LiveLabel(partition, offset, **(fields | changes))
