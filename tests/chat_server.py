"""A server of chat models over HTTP, whose answers a test makes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any

from aiohttp import web

from tests.thread_server import ThreadServer


class ChatServer(ThreadServer):
    """OpenAI-compatible: it lists its models and answers chats."""

    def __init__(self, models: Iterable[str]) -> None:
        """``models``: their names."""
        super().__init__()
        self._names = list(models)

    async def make_runner(self) -> web.BaseRunner[Any]:
        app = web.Application()
        app.router.add_get("/v1/models", self._list)
        app.router.add_post("/v1/chat/completions", self.complete)
        return web.AppRunner(app, access_log=None)

    @abstractmethod
    async def complete(self, request: web.Request) -> web.Response:
        """The answer to one chat."""

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(
            {"object": "list", "data": [{"id": name, "object": "model"} for name in self._names]}
        )
