"""`/` and `/assets`: the page's own files from the package. Only files that existed when the process started
can be requested.
"""

from __future__ import annotations

from functools import cache
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import NamedTuple

from fastapi import APIRouter, Request, Response

from connectors.api.problems import Problem

router = APIRouter(include_in_schema=False)

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'"
)


class _File(NamedTuple):
    content: bytes
    media_type: str
    tag: str


@cache
def page_files() -> dict[str, _File]:
    """By path below `/assets/`."""
    found: dict[str, _File] = {}

    def read(folder: Traversable, before: str) -> None:
        for one in folder.iterdir():
            suffix = one.name.rpartition(".")[2]
            if one.is_dir():
                read(one, f"{before}{one.name}/")
            elif suffix in _TYPES:
                content = one.read_bytes()
                tag = f'"{blake2b(content, digest_size=8).hexdigest()}"'
                found[f"{before}{one.name}"] = _File(content, _TYPES[suffix], tag)

    read(files("connectors.api") / "page", "")
    return found


@router.get("/")
@router.head("/")
async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


@router.get("/assets/{path:path}")
@router.head("/assets/{path:path}")
async def asset(request: Request, path: str) -> Response:
    """A file of the page."""
    return _answer(request, path)


def _answer(request: Request, path: str) -> Response:
    found = page_files().get(path)
    if found is None:
        raise Problem(404, "there is nothing here")
    # Revalidated each time: after an upgrade nobody gets a mix of the old page and the new one.
    headers = {"cache-control": "no-cache", "etag": found.tag, "content-security-policy": _POLICY}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)
