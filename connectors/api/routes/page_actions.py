"""What the page's routes share: their ports, who acts, the CSRF token, and the audit of an action."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import Depends, Request

from connectors.api.access.authentication import Gate
from connectors.api.access.sessions import CSRF_HEADER, Sessions
from connectors.api.problems import Problem
from connectors.api.routes.file_problems import told
from connectors.api.routes.params import Ports
from streams.core.errors import LabelstreamError
from streams.ports.audit import LOOK, AuditEntry
from streams.ports.page import PagePorts

LOCAL = "local"


def _page_of(services: Ports) -> PagePorts:
    if services.page is None:
        raise Problem(503, "this service has no page", code="not-configured")
    return services.page


Page = Annotated[PagePorts, Depends(_page_of)]


def who(request: Request) -> str:
    """The name of the key of the request, or `local`."""
    return str(getattr(request.state, "client_name", None) or LOCAL)


@dataclass
class Act:
    """An action in progress; ``detail`` may be filled in."""

    request: Request
    page: PagePorts
    detail: str = ""

    @asynccontextmanager
    async def audited(self, action: str, target: str, detail: str = "") -> AsyncIterator[Act]:
        """A context that records the action, whatever its result. A refusal becomes a problem with
        its text.
        """
        act = replace(self, detail=detail)
        result = "broke"
        try:
            with told():
                yield act
            result = "done"
        except Problem as problem:
            result = problem.code or str(problem.status_code)
            raise
        except LabelstreamError as error:
            result = type(error).__name__
            raise
        finally:
            # A row that may not be answered about may be erased: then its id is not kept either.
            shown = "" if action.startswith("review-") and result != "done" else target
            await self.page.audit.note(
                entry(self.request, action, target=shown, result=result, detail=act.detail)
            )


def _act(request: Request, page: Page) -> Act:
    # Without keys there is no session whose token the gate would check, so it is checked here.
    gate: Gate = request.app.state.gate
    sessions: Sessions = request.app.state.sessions
    token = request.headers.get(CSRF_HEADER, "")
    if not gate.asks_for_keys and not sessions.csrf_fits("", token):
        raise Problem(403, "the page's token is missing", code="no-csrf-token")
    return Act(request, page)


Acting = Annotated[Act, Depends(_act)]


def entry(
    request: Request, action: str, *, target: str = "", result: str = "done", detail: str = "", name: str = ""
) -> AuditEntry:
    """An audit entry for the action of ``request``, at the present time."""
    return AuditEntry(
        at=datetime.now(UTC),
        who=name or who(request),
        address=request.client.host if request.client else "",
        action=action,
        target=target[:500],
        result=result,
        detail=detail[:1000],
    )


async def note_looks(request: Request, page: PagePorts | None, row_ids: Iterable[str], how: str) -> None:
    """Note that somebody sees the texts of these rows, one entry for each, so that an erasure finds it.
    ``how``: the way that led there.
    """
    if page is not None:
        for row_id in dict.fromkeys(row_ids):
            if row_id:
                await page.audit.note(entry(request, LOOK, target=row_id, detail=how))
