"""The local stack: Kafka, ClickHouse and the LLM stand-in as processes, with their data in one folder.

Everything listens on 127.0.0.1. The parts keep running after the command that started them, and their data
outlives them: ``up`` after ``down``, a crash or a reboot finds the same topics and tables on the same ports.
"""

import contextlib
import fcntl
import http.client
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from connectors.local import processes
from connectors.local.jars import ensure_jars
from connectors.local.kafka import KafkaNode, kafka_answers
from connectors.local.processes import Child
from streams.core.errors import ConfigurationError, UnavailableError

PartName = Literal["kafka", "clickhouse", "llm"]
Progress = Callable[[str], None]

_PARTS: tuple[PartName, ...] = ("kafka", "clickhouse", "llm")
_SETTING: dict[PartName, str] = {
    "kafka": "KAFKA_BOOTSTRAP_SERVERS",
    "clickhouse": "CLICKHOUSE_HOST",
    "llm": "LLM_LABELER_API_BASE",
}
# A part that ends is reported at once; this is for one that hangs, also on a machine with much else to do.
_READY_SECONDS = 180.0


class PartStatus(BaseModel):
    """One part. ``address`` is what a setting takes: ``host:port``, for the LLM ``http://host:port/v1``."""

    model_config = ConfigDict(frozen=True)

    name: PartName
    state: Literal["running", "stopped", "external"] = "stopped"
    address: str | None = None
    host: str | None = None
    port: int | None = None
    pid: int | None = None
    log: Path | None = None


class StackStatus(BaseModel):
    """All parts, as they are now."""

    model_config = ConfigDict(frozen=True)

    data: Path
    kafka: PartStatus
    clickhouse: PartStatus
    llm: PartStatus

    @property
    def parts(self) -> tuple[PartStatus, ...]:
        return (self.kafka, self.clickhouse, self.llm)

    def with_external(self, name: PartName, address: str) -> "StackStatus":
        """The same with one part that a setting points elsewhere."""
        return self.model_copy(update={name: PartStatus(name=name, state="external", address=address)})

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``: ``data`` and, per part, its fields without its name."""
        parts: dict[str, Any] = {
            part.name: part.model_dump(mode="json", exclude={"name"}) for part in self.parts
        }
        return {"data": str(self.data), **parts}


class StackError(UnavailableError):
    """A part did not come up; the message holds the end of its log."""


class PortTakenError(ConfigurationError):
    """A port that was asked for is in use."""


class LocalStack:
    """The parts of one data folder. Several processes may use one folder: changes are made under a file lock.

    ``jars_dir`` is where Kafka's jars are kept, by default ``<data>/jars``.
    """

    def __init__(self, data_dir: Path, *, jars_dir: Path | None = None) -> None:
        self._data = data_dir.resolve()
        self._jars = (jars_dir or self._data / "jars").resolve()

    def up(
        self,
        *,
        kafka: bool = True,
        clickhouse: bool = True,
        llm: bool = True,
        kafka_port: int | None = None,
        clickhouse_port: int | None = None,
        llm_port: int | None = None,
        on_progress: Progress | None = None,
        llm_args: Sequence[str] = (),
        taxonomy: Path | None = None,
    ) -> StackStatus:
        """Start the wanted parts that do not run yet, and wait until each one answers.

        A part without a given port keeps the one it had, or takes a free one. ``taxonomy`` and ``llm_args``
        go to the stand-in, which is restarted when they changed.

        Raises :class:`PortTakenError`; :class:`StackError` with the end of the log of a part that did not
        come up; :class:`connectors.local.jars.JarsUnavailableError` when Kafka is neither there nor can be
        downloaded.
        """
        report = on_progress or (lambda _line: None)
        asked = {"kafka": kafka_port, "clickhouse": clickhouse_port, "llm": llm_port}
        wanted = [name for name in _PARTS if {"kafka": kafka, "clickhouse": clickhouse, "llm": llm}[name]]
        model_args = [*(["--taxonomy", str(taxonomy.resolve())] if taxonomy else []), *llm_args]
        with self._locked() as state:
            for name in wanted:
                child = _child(state, name)
                if child and name == "llm" and state[name].get("args") != model_args:
                    processes.stop([child])
                    child = None
                if child and asked[name] not in (None, state[name]["port"]):
                    raise PortTakenError(
                        f"{name} runs already, on port {state[name]['port']}: "
                        f"stop it before it can use {asked[name]}"
                    )
                if child is None:
                    self._start(state, name, asked[name], model_args, report)
            for name in wanted:
                self._wait(state, name, report)
        return self.status()

    def down(self, parts: Sequence[str] | None = None) -> None:
        """Stop all parts, or these, within 15 seconds. Data and ports are kept."""
        names = [name for name in _PARTS if parts is None or name in parts]
        with self._locked() as state:
            processes.stop([child for name in names if (child := _child(state, name))])
            for name in names:
                state.get(name, {}).pop("pid", None)

    def status(self) -> StackStatus:
        """What runs now, without waiting for a part."""
        state = self._load()
        kafka, clickhouse, llm = (self._part(state, name) for name in _PARTS)
        return StackStatus(data=self._data, kafka=kafka, clickhouse=clickhouse, llm=llm)

    def _start(
        self,
        state: dict[str, Any],
        name: PartName,
        asked: int | None,
        model_args: list[str],
        report: Progress,
    ) -> None:
        before = state.get(name, {})
        taken = [part["port"] for part in state.values()]
        part: dict[str, Any] = {"port": _choose_port(name, asked, before.get("port"), taken, report)}
        if name == "kafka":
            jars = ensure_jars(self._jars, report)
            controller_port = before.get("controller_port")
            if not controller_port or not processes.port_is_free(controller_port):
                controller_port = processes.free_port([*taken, part["port"]])
            part["controller_port"] = controller_port
            node = KafkaNode(self._data / "kafka", jars, part["port"], controller_port)
            node.prepare()
            command = node.command()
        elif name == "clickhouse":
            store = str(self._data / "clickhouse")
            command = processes.python_module(
                "connectors.local.clickhouse", "--path", store, "--port", str(part["port"])
            )
        else:
            part["args"] = model_args
            command = processes.python_module(
                "connectors.llm.standin", "--port", str(part["port"]), *model_args
            )
        report(f"starting {name} on 127.0.0.1:{part['port']}")
        child = processes.start(command, self._log(name))
        state[name] = {**part, "pid": child.pid, "started": child.started}
        # Written at once: if this command is interrupted while it waits, `down` knows what to stop.
        self._save(state)

    def _wait(self, state: dict[str, Any], name: PartName, report: Progress) -> None:
        began, port = time.monotonic(), state[name]["port"]
        while not _answers(name, port):
            child = _child(state, name)
            if child is None or time.monotonic() - began > _READY_SECONDS:
                if child:
                    processes.stop([child])
                problem = "does not answer" if child else "stopped right after its start"
                raise StackError(
                    f"{name} {problem} (127.0.0.1:{port}). The end of {self._log(name)}:\n"
                    f"{processes.last_lines(self._log(name))}",
                    setting=_SETTING[name],
                )
            time.sleep(0.05)
        report(f"{name} is up on 127.0.0.1:{port}")

    def _part(self, state: dict[str, Any], name: PartName) -> PartStatus:
        child = _child(state, name)
        if child is None:
            return PartStatus(name=name, log=self._log(name) if name in state else None)
        port = state[name]["port"]
        address = f"http://127.0.0.1:{port}/v1" if name == "llm" else f"127.0.0.1:{port}"
        return PartStatus(
            name=name,
            state="running",
            address=address,
            host="127.0.0.1",
            port=port,
            pid=child.pid,
            log=self._log(name),
        )

    def _log(self, name: PartName) -> Path:
        return self._data / "logs" / f"{name}.log"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[dict[str, Any]]:
        """The state, changed by one process at a time; saved at the end, also after an error."""
        try:
            self._data.mkdir(parents=True, exist_ok=True)
            file = (self._data / "stack.lock").open("w")
        except OSError as error:
            raise ConfigurationError(
                f"the folder {self._data} cannot be written: {error.strerror}",
                setting="LABELSTREAM_DATA",
                fix="set LABELSTREAM_DATA to a folder that may be written",
            ) from error
        with file as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = self._load()
            try:
                yield state
            finally:
                self._save(state)

    def _load(self) -> dict[str, Any]:
        try:
            state = json.loads((self._data / "stack.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return {}
        return state if isinstance(state, dict) else {}

    def _save(self, state: dict[str, Any]) -> None:
        fresh = self._data / "stack.json.new"
        fresh.write_text(json.dumps(state, indent=2) + "\n", "utf-8")
        os.replace(fresh, self._data / "stack.json")


def _child(state: dict[str, Any], name: PartName) -> Child | None:
    part = state.get(name, {})
    if "pid" not in part:
        return None
    child = Child(part["pid"], part["started"])
    return child if child.alive else None


def _choose_port(
    name: PartName, asked: int | None, before: int | None, taken: list[int], report: Progress
) -> int:
    if asked:
        if not processes.port_is_free(asked):
            raise PortTakenError(f"port {asked}, asked for {name}, is in use on 127.0.0.1: give another one")
        return asked
    if before and processes.port_is_free(before):
        return before
    port = processes.free_port(taken)
    if before:
        report(f"port {before}, which {name} had, is in use by now: {name} moves to {port}")
    return port


def _answers(name: PartName, port: int) -> bool:
    if name == "kafka":
        return kafka_answers(f"127.0.0.1:{port}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/ping" if name == "clickhouse" else "/health")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
