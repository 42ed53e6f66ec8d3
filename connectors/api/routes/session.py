"""`/session`: sign in on the page with an API key, and sign out."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from connectors.api.access.authentication import Gate
from connectors.api.access.sessions import CSRF_HEADER, Sessions, is_secure, session_in, set_cookie
from connectors.api.problems import Problem
from connectors.api.routes.page_actions import LOCAL, Page, entry

router = APIRouter(include_in_schema=False)


class SignIn(BaseModel):
    """A key, as in `API_KEYS`."""

    key: str = Field(min_length=1, max_length=500)


class SessionAnswer(BaseModel):
    """``name``: None before signing in. ``csrf``: the header `X-CSRF-Token` for requests that change
    something.
    """

    name: str | None
    scope: str | None
    keys: bool
    csrf: str | None


@router.get("/session")
async def session(request: Request) -> SessionAnswer:
    """Who is signed in."""
    return _answer(request, session_in(request.headers.get("cookie", "")))


@router.post("/session")
async def sign_in(request: Request, response: Response, asked: SignIn, page: Page) -> SessionAnswer:
    """Begin a session."""
    gate: Gate = request.app.state.gate
    sessions: Sessions = request.app.state.sessions
    owner = gate.owner_of(asked.key.strip().encode("utf-8", "replace").decode("latin-1"))
    if owner is None:
        await page.audit.note(entry(request, "sign-in", result="wrong-key", name="unknown"))
        raise Problem(403, "no client has this key", code="wrong-key")
    session = sessions.begin(owner)
    await page.audit.note(entry(request, "sign-in", detail=owner.scope, name=owner.name))
    response.headers["set-cookie"] = set_cookie(session, secure=_secure(request))
    return _answer(request, session)


@router.delete("/session")
async def sign_out(request: Request, response: Response, page: Page) -> SessionAnswer:
    """End it in this browser."""
    sessions: Sessions = request.app.state.sessions
    held = session_in(request.headers.get("cookie", ""))
    owner = sessions.owner(held)
    if owner is not None:
        if not sessions.csrf_fits(held, request.headers.get(CSRF_HEADER, "")):
            raise Problem(403, "the page's token is missing or of another session", code="no-csrf-token")
        await page.audit.note(entry(request, "sign-out", name=owner.name))
    response.headers["set-cookie"] = set_cookie("", secure=_secure(request))
    return _answer(request, "")


def _answer(request: Request, held: str) -> SessionAnswer:
    gate: Gate = request.app.state.gate
    sessions: Sessions = request.app.state.sessions
    if not gate.asks_for_keys:
        return SessionAnswer(name=LOCAL, scope="admin", keys=False, csrf=sessions.csrf(""))
    owner = sessions.owner(held)
    if owner is None:
        return SessionAnswer(name=None, scope=None, keys=True, csrf=None)
    return SessionAnswer(name=owner.name, scope=owner.scope, keys=True, csrf=sessions.csrf(held))


def _secure(request: Request) -> bool:
    return is_secure(request.url.scheme, request.headers.get("origin", ""))
