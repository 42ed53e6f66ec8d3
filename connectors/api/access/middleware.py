"""Middleware before every route: keys, limits, security headers, and a handler for unexpected errors. It is
plain ASGI, so that bodies and streams pass through piece by piece.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping

import structlog

from connectors.api.access.authentication import ASSETS, OPEN_PATHS, Gate
from connectors.api.access.limits import Body, Message, Rate
from connectors.api.problems import Problem, answer

log = structlog.get_logger()

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# The content type that `curl -d` sends, and a missing one, may be JSON too.
_JSON = {"", "application/json", "application/x-www-form-urlencoded"}
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Scope = Message
# Route, method, status, seconds until the response began.
Observe = Callable[[str, str, int, float], None]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# A route may override it by sending the header itself.
_HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'; base-uri 'none'",
    b"cross-origin-resource-policy": b"same-origin",
    b"cache-control": b"no-store",
}


class Guard:
    """ASGI middleware. ``body_bytes``: the largest body; ``larger``: the same for paths that accept larger
    ones. ``json_paths``: paths whose body is JSON even if `curl -d` declares it as a form.
    """

    def __init__(
        self,
        app: App,
        *,
        gate: Gate,
        rate: Rate,
        body_bytes: int,
        larger: Mapping[str, int],
        json_paths: Iterable[str] = (),
        observe: Observe = lambda route, method, status, seconds: None,
    ) -> None:
        self._app = app
        self._gate = gate
        self._rate = rate
        self._body_bytes = body_bytes
        self._larger = dict(larger)
        self._json_paths = frozenset(json_paths)
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        response_started, began = False, time.monotonic()

        async def answering(message: Message) -> None:
            nonlocal response_started
            if message["type"] == "http.response.start":
                response_started = True
                # Unknown paths and invented methods do not become metric labels.
                route = getattr(scope.get("route"), "path_format", "other")
                method = scope["method"] if scope["method"] in _METHODS else "OTHER"
                self._observe(route, method, message["status"], time.monotonic() - began)
                have = {name.lower() for name, _ in message.get("headers", ())}
                added = [(name, value) for name, value in _HEADERS.items() if name not in have]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        try:
            body = self._admit(scope, receive)
            await self._app(scope, body, answering)
        except Problem as problem:
            if response_started:
                raise
            response = answer(
                problem.status_code,
                str(problem.detail),
                code=problem.code,
                headers=problem.headers,
                extra=problem.extra,
            )
            await response(scope, receive, answering)
        except Exception:
            # The stack trace goes to the log, never into the response.
            log.exception("request_broke", method=scope["method"], path=scope["path"])
            if response_started:
                raise
            response = answer(500, "this is a fault of the service; its log says more", code="internal")
            await response(scope, receive, answering)

    def _admit(self, scope: Scope, receive: Receive) -> Body:
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope.get("headers", ())
        }
        path, peer = scope["path"], str((scope.get("client") or ("unknown",))[0])
        try:
            owner = self._gate.client(scope["method"], path, headers)
        except Problem:
            self._rate.take(f"address {peer}")  # guessing keys is slow
            raise
        # The page requests some twenty small files at once.
        if path not in OPEN_PATHS and not path.startswith(ASSETS):
            self._rate.take(f"key {owner.name}" if owner is not None else f"address {peer}")
        state = scope.setdefault("state", {})
        state["client_name"] = None if owner is None else owner.name
        state["is_admin"] = owner.may("admin") if owner is not None else not self._gate.asks_for_keys
        if scope["method"] == "POST" and path in self._json_paths:
            scope["headers"] = _as_json(scope["headers"], headers.get("content-type", ""))
        body = Body(receive, self._larger.get(path.rstrip("/") or path, self._body_bytes))
        body.declared(headers.get("content-length"))
        return body


def _as_json(headers: Iterable[tuple[bytes, bytes]], kind: str) -> list[tuple[bytes, bytes]]:
    media = kind.partition(";")[0].strip().lower()
    if media not in _JSON and not media.endswith("+json"):
        raise Problem(415, "the body has to be application/json", code="not-json")
    others = [(name, value) for name, value in headers if name.lower() != b"content-type"]
    return [*others, (b"content-type", b"application/json")]
