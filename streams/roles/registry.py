"""The roles: each takes settings, waits for what it needs, and works until cancelled.

Each is put together in a module of its own, which is imported only by the process that runs it: a poller
that is started anew does not wait for the parts of the API. What flows where is in
`streams/pipeline/topology.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.core.settings import Settings
    from streams.observability.health import Health

    Work = Callable[[Settings, Health], Coroutine[Any, Any, None]]


class Role(StrEnum):
    """What `run` can run."""

    POLLER = "poller"
    AGENTS = "agents"
    SINK = "sink"
    API = "api"
    FETCHER = "fetcher"
    ALL = "all"


_WORK = {
    Role.POLLER: "streams.roles.poller:poller",
    Role.AGENTS: "streams.roles.agents:agents",
    Role.SINK: "streams.roles.sink:sink",
    Role.API: "streams.roles.api:api",
    Role.FETCHER: "streams.roles.fetcher:fetcher",
    Role.ALL: "streams.roles.all_roles:every",
}


async def run_role(role: Role, settings: Settings) -> None:
    """Run ``role`` with its health served, until cancelled.

    Raises:
        whatever ends the work.
    """
    from streams.runtime.lifecycle import run_with_health

    await run_with_health(settings, role.value, work_of(role))


def work_of(role: Role) -> Work:
    """What ``role`` does."""
    module, _, name = _WORK[role].partition(":")
    work: Work = getattr(import_module(module), name)
    return work
