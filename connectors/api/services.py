"""What the routes need, as protocols. `streams/roles/api.py` passes the implementations, tests pass others.

Everything here may raise our errors (`streams/core/errors.py`), which become problems.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from streams.ports.classifier import Classifier
from streams.ports.files import FileService
from streams.ports.label_feed import Feed
from streams.ports.lookups import Lookups
from streams.ports.page import PagePorts

# Path (`/healthz`, `/readyz`, `/metrics`) to status, content type and body.
AskHealth = Callable[[str], Awaitable[tuple[int, str, bytes]]]


@dataclass(frozen=True, kw_only=True)
class Services:
    """The ports."""

    health: AskHealth
    lookups: Lookups
    classifier: Classifier
    feed: Feed
    files: FileService | None = None
    page: PagePorts | None = None
