"""The screen of `labelstream status`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.cli.common import state_of
from streams.cli.versions.canary import told
from streams.operations.retention import describe_late, describe_lost
from streams.ports.kafka import WaitsFor

_VERSIONS = 5
_CANARY_SHOWN = timedelta(days=7)


def picture(found: dict[str, Any], at: datetime) -> RenderableType:
    """The screen for ``found``, as returned by `status`, at a given time."""
    return Group(
        *_missing(found["parts"]),
        _roles(found["roles"]),
        *_outages(found["roles"]),
        *_retention(found),
        _topics(found["topics"], found["groups"]),
        *_endpoints(found["roles"]),
        *_versions(found["versions"]),
        *_drift(found["drift"]),
        *_jobs(found["replays"]),
        *_canary(found["canary"], at),
        _privacy(found["privacy"]),
        Text(f"{at:%Y-%m-%d %H:%M:%S}", style="dim"),
    )


def duration(seconds: float) -> str:
    """A duration with one unit: `0 s`, `45 s`, `12 min`, `3.4 h`, `2.1 d`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.1f} d"


def _privacy(found: dict[str, Any]) -> RenderableType:
    return Text(f"personal data: {found['mode']} {', '.join(found['entities'])}".rstrip())


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", expand=False)
    for column in columns:
        right = column in ("messages", "kept", "a second", "limit", "in flight", "waiting", "rows", "pid")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _missing(parts: dict[str, str]) -> Iterator[RenderableType]:
    for name, why in parts.items():
        if why:
            yield Text(f"{name} is down: {why}", style="red")


def _roles(roles: list[dict[str, Any]]) -> RenderableType:
    if not roles:
        return Text("no role runs on this machine", style="yellow")
    table = _table("roles of this machine", "role", "pid", "health", "at work", "counts")
    for role in roles:
        healthy = role["health"] == "ok"
        table.add_row(
            role["role"],
            str(role.get("pid", "-")),
            Text(role["health"], style="" if healthy else "red"),
            _at_work(role),
            _counts(role),
        )
    return table


def _outages(roles: list[dict[str, Any]]) -> Iterator[RenderableType]:
    for role in roles:
        for one in role.get("outages") or ():
            where = f"{one['topic']}/{one['partition']}"
            yield Text(f"{role['role']} cannot write {where} since {one['since']}: {one['why']}", style="red")


def _retention(found: dict[str, Any]) -> Iterator[RenderableType]:
    """Who writes no more until its readers have caught up, and what retention took from them."""
    for role in found["roles"]:
        for one in role.get("waits_for") or ():
            behind = f"{one['group']} has {one['unread']} messages of {one['topic']} to read"
            yield Text(f"{role['role']} waits for its readers: {behind}", style="yellow")
    for one in found["late"]:
        yield Text(describe_late(WaitsFor(**one)), style="yellow")
    for one in found["lost"]:
        yield Text(describe_lost(one), style="red" if one["open"] else "dim")


def _at_work(role: dict[str, Any]) -> Text:
    if role["ready"] != "ok":
        return Text(f"waits for {role['ready']}", style="yellow")
    problem = role.get("problem")
    return Text(f"publishes nothing: {problem}", style="yellow") if problem else Text("yes")


def _counts(role: dict[str, Any]) -> str:
    """The main counters have no colon in their name, except those of the agents, which count by step."""
    counts = role.get("counts") or {}
    shown = {
        name: count
        for name, count in counts.items()
        if count and (":" not in name or (role["role"] == "agents" and name.count(":") == 1))
    }
    return ", ".join(f"{name.replace(':', ' ')} {count}" for name, count in sorted(shown.items())[:6])


def _topics(topics: dict[str, Any], members: dict[str, int]) -> RenderableType:
    if not topics:
        return Text("")
    table = _table("topics", "topic", "messages", "kept", "a second", "lag of its readers")
    for name, topic in topics.items():
        table.add_row(
            name, str(topic["messages"]), str(topic["kept"]), f"{topic['rate']:.1f}", _lag(topic, members)
        )
    without = [group for group, count in members.items() if not count]
    table.caption = f"nobody is at work in {', '.join(without)}" if without else None
    return table


def _lag(topic: dict[str, Any], members: dict[str, int]) -> Text:
    text = Text()
    for group, lag in topic["lag"].items():
        text.append("" if not text else "; ")
        since = f", oldest {duration(topic['lag_seconds'][group])}" if lag else ""
        text.append(f"{group} {lag}{since}", style="yellow" if lag and not members.get(group) else "")
    return text


def _endpoints(roles: list[dict[str, Any]]) -> Iterator[RenderableType]:
    lines = [(role, name, one) for role in roles for name, one in (role.get("endpoints") or {}).items()]
    if lines:
        table = _table("LLM endpoints", "worker", "endpoint", "limit", "in flight", "waiting", "why")
        for role, name, one in lines:
            waiting = one["waiting"] + one["waiting_replay"]
            style = "" if one["available"] else "red"
            table.add_row(
                f"{role['role']} {role.get('pid', '')}",
                name,
                str(one["limit"]),
                str(one["in_flight"]),
                str(waiting),
                Text(str(one["reason"]), style=style),
            )
        yield table


def _versions(versions: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if versions:
        table = _table("label versions", "version", "state", "model")
        first = sorted(versions, key=lambda one: not (one["current"] or one.get("live")))
        for one in first[:_VERSIONS]:
            table.add_row(Text(one["version"]), state_of(one), Text(str(one["model"])))
        more = len(versions) - _VERSIONS
        table.caption = f"and {more} more: labelstream versions list" if more > 0 else None
        yield table


def _canary(canary: dict[str, Any] | None, at: datetime) -> Iterator[RenderableType]:
    """One that runs, or that ended within the last week."""
    if canary is None:
        return
    stop = canary["stopped"]
    if stop is None or at.astimezone() - datetime.fromisoformat(stop["at"]) < _CANARY_SHOWN:
        yield Text("\n".join(told(canary)))


def _drift(found: dict[str, Any] | None) -> Iterator[RenderableType]:
    """What differs from the reference; nothing as long as nothing does."""
    if found is None:
        return
    for one in found["alarms"]:
        words = f"{one['series']} is {one['found']:.3g}, usually {one['expected']:.3g}"
        yield Text(f"drift: {words} ({one['window']}, since {one['since'][:16]} UTC)", style="red")
    accuracy, model = found["accuracy"], found["model"]
    if accuracy is not None and accuracy["alarm"]:
        now, usual = accuracy["now"], accuracy["wrong"]
        yield Text(f"drift: {now:.1%} of the last audited labels are wrong, usually {usual:.1%}", style="red")
    if model is not None and model["since"] is not None:
        share = model["differs"]
        words = f"{share:.0%} of {model['texts']} texts that are asked again have another answer"
        yield Text(f"drift: another model answers as {model['version']}: {words}", style="red")


def _jobs(jobs: list[dict[str, Any]]) -> Iterator[RenderableType]:
    if jobs:
        table = _table("replays and backfills", "job", "state", "published", "of", "version")
        for job in jobs:
            table.add_row(
                job["id"],
                job["state"],
                str(job["published"]),
                str(job["expected"]),
                Text(str(job["version"] or "")),
            )
        yield table
