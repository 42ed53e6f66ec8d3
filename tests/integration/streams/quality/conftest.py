"""An empty result database on the shared engine."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.integration.connectors.clickhouse.engine import Database, fresh_database
from tests.stack import SharedStack


@pytest.fixture
async def tables(shared: SharedStack) -> AsyncIterator[Database]:
    part = shared.clickhouse()
    assert part.host
    assert part.port
    async with fresh_database((part.host, part.port)) as found:
        yield found
