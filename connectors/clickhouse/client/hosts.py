"""CLICKHOUSE_HOST: one host, or the replicas of a cluster, of which one is used at a time."""

from __future__ import annotations

import re
import threading
from typing import NamedTuple

import structlog

from streams.core.errors import ConfigurationError

log = structlog.get_logger()

SETTING = "CLICKHOUSE_HOST"
# A name or an IPv4 address, or an IPv6 address in brackets; then perhaps a port.
_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^\s:,/\[\]]+))(?::(?P<port>\d{1,5}))?")


class Host(NamedTuple):
    """Where a server answers over HTTP."""

    name: str
    port: int

    def __str__(self) -> str:
        return f"[{self.name}]:{self.port}" if ":" in self.name else f"{self.name}:{self.port}"


def parse_hosts(text: str, port: int) -> list[Host]:
    """The hosts in ``text``, separated by commas, in order; ``port`` for those without one of their own.

    Raises:
        ConfigurationError: one of them is no host, or is named twice.
    """
    if text.count(":") > 1 and "[" not in text and "," not in text:
        return [Host(text.strip(), port)]  # one IPv6 address, as it was always written
    found: list[Host] = []
    for part in text.split(","):
        matched = _HOST.fullmatch(part.strip())
        given = int(matched["port"] or port) if matched else 0
        if matched is None or not 1 <= given <= 65535:
            raise ConfigurationError(
                f"{part.strip()!r} in CLICKHOUSE_HOST is no host",
                setting=SETTING,
                fix="write host, host:port or several of them with commas in between",
            )
        host = Host(matched["v6"] or matched["name"], given)
        if host in found:
            raise ConfigurationError(
                f"CLICKHOUSE_HOST names {host} twice", setting=SETTING, fix="name each host once"
            )
        found.append(host)
    return found


class Hosts:
    """Which host is used. The same one as long as it works; clients that share this object move together.

    Thread-safe.
    """

    def __init__(self, every: list[Host]) -> None:
        """``every``: at least one, the preferred one first."""
        self.every = tuple(every)
        self.moves = 0  # how often a host was left
        self._lock = threading.Lock()

    @property
    def several(self) -> bool:
        return len(self.every) > 1

    @property
    def current(self) -> Host:
        return self.every[self.moves % len(self.every)]

    def leave(self, host: Host, reason: str) -> None:
        """Use the next one, if ``host`` is still the current one."""
        with self._lock:
            if not self.several or self.current != host:
                return
            self.moves += 1
        log.warning("clickhouse_host_left", host=str(host), next=str(self.current), reason=reason[:300])
