"""Which server answers at an endpoint: its name, version and limits, as far as it tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from connectors.llm.answer import json_in
from streams.core.errors import LabelstreamError

# Gets what is at a path: `/models` below the endpoint's base, others beside it.
Look = Callable[[str], Awaitable[bytes]]


@dataclass(frozen=True)
class Server:
    """``context``: the longest prompt and answer, in tokens; ``slots``: answers at a time. None: it is not
    told.
    """

    name: str = "unknown"
    version: str | None = None
    context: int | None = None
    slots: int | None = None
    models: tuple[str, ...] = ()

    @property
    def identity(self) -> tuple[object, ...]:
        """If it changes, other requests may be taken."""
        return self.name, self.version, self.models

    @property
    def told(self) -> str:
        """For a person."""
        return f"{self.name} {self.version or '(version not told)'} with {', '.join(self.models)}"


async def server_at(look: Look, model: str) -> Server:
    """The server of ``model``. What cannot be found out is left unknown; ``models`` is empty if the server
    does not answer.
    """
    models = await _json(look, "/models")
    found = await _server_of(look, _entry(models, model))
    names = {str(one["id"]) for one in _list(models.get("data")) if isinstance(one, dict) and "id" in one}
    return replace(found, models=tuple(sorted(names)))


async def _server_of(look: Look, entry: dict[str, Any]) -> Server:
    owner, context = str(entry.get("owned_by") or ""), _whole(entry.get("max_model_len"))
    if owner == "llamacpp":
        props = await _json(look, "/props")
        settings = props.get("default_generation_settings")
        context = _whole(settings.get("n_ctx")) if isinstance(settings, dict) else None
        return Server(
            "llama-server", _text(props.get("build_info")), context, _whole(props.get("total_slots"))
        )
    if owner == "sglang":
        info = await _json(look, "/get_server_info")
        slots = _whole(info.get("max_running_requests"))
        return Server("SGLang", _text(info.get("version")), context, slots)
    if owner == "vllm":
        return Server("vLLM", _text((await _json(look, "/version")).get("version")), context)
    if owner == "library":
        return Server("Ollama", _text((await _json(look, "/api/version")).get("version")), context)
    if litellm := _text((await _json(look, "/health/readiness")).get("litellm_version")):
        return Server("LiteLLM", litellm, context)
    return Server(owner or "unknown", None, context)


async def owner_of(look: Look, model: str) -> str:
    """`owned_by` in the list of models: names the server, for some; empty if it is not told."""
    return str(_entry(await _json(look, "/models"), model).get("owned_by") or "")


def _entry(models: dict[str, Any], model: str) -> dict[str, Any]:
    entries = [one for one in _list(models.get("data")) if isinstance(one, dict)]
    return next((one for one in entries if one.get("id") == model), entries[0] if entries else {})


async def _json(look: Look, path: str) -> dict[str, Any]:
    try:
        found = json_in(await look(path))
    except LabelstreamError:
        return {}
    return found if isinstance(found, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None
