"""The roles: each takes settings, waits for what it needs, and works until cancelled.

Each is in a module of its own, which only the process that runs it imports: a poller that restarts does not
wait for the imports of the API. `streams/pipeline/topology.py` says what flows where.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING, Any

from streams.core.errors import optional_packages

if TYPE_CHECKING:
    from streams.core.settings import Settings
    from streams.observability.health import Health

    Work = Callable[[Settings, Health], Coroutine[Any, Any, None]]


class Role(StrEnum):
    """The roles that `labelstream run` accepts."""

    POLLER = "poller"
    AGENTS = "agents"
    SINK = "sink"
    API = "api"
    FETCHER = "fetcher"
    TRAINER = "trainer"
    ALL = "all"


_WORK = {
    Role.POLLER: "streams.roles.poller:poller",
    Role.AGENTS: "streams.roles.agents:agents",
    Role.SINK: "streams.roles.sink:sink",
    Role.API: "streams.roles.api:api",
    Role.FETCHER: "streams.roles.fetcher:fetcher",
    Role.TRAINER: "streams.roles.trainer:trainer",
    Role.ALL: "streams.roles.all_roles:every",
}


async def run_role(role: Role, settings: Settings) -> None:
    """Run ``role`` and serve its health, until cancelled.

    Raises:
        whatever ends the work.
    """
    from streams.runtime.lifecycle import run_with_health

    await run_with_health(settings, role.value, work_of(role))


def work_of(role: Role) -> Work:
    """The work of ``role``.

    Raises:
        ConfigurationError: packages of an extra are not installed.
    """
    module, _, name = _WORK[role].partition(":")
    with optional_packages(f"the role {role.value}"):
        work: Work = getattr(import_module(module), name)
    return work
