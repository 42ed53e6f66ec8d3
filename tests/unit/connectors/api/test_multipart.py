"""The form parser: however the bytes are cut, the file comes out whole."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.api.problems import Problem
from connectors.api.routes.multipart import MultipartForm, boundary_of

BOUNDARY = "----x1"


def form_of(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    mark = f"--{BOUNDARY}".encode()
    return (
        b"".join(mark + b"\r\n" + head.encode() + b"\r\n\r\n" + body + b"\r\n" for head, body in parts)
        + mark
        + end
    )


def part(name: str, content: bytes, filename: str = "a.csv") -> tuple[str, bytes]:
    return f'Content-Disposition: form-data; name="{name}"; filename="{filename}"', content


async def cut(content: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at, number = 0, 0
    while at < len(content):
        size = sizes[number % len(sizes)]
        yield content[at : at + size]
        at, number = at + size, number + 1


def read(content: bytes, sizes: list[int] | None = None) -> tuple[bytes, str]:
    async def whole() -> tuple[bytes, str]:
        form = MultipartForm(cut(content, sizes or [len(content) or 1]), BOUNDARY)
        return b"".join([piece async for piece in form.file()]), form.name

    return asyncio.run(whole())


@given(
    st.text(st.sampled_from("\r\n-x1 a"), max_size=60),
    st.lists(st.integers(1, 40), min_size=1, max_size=5),
)
def test_any_content_in_any_pieces(text: str, sizes: list[int]) -> None:
    content = text.encode().replace(f"\r\n--{BOUNDARY}".encode(), b"")
    form = form_of(part("note", b"before"), part("file", content, "ло г.csv"), part("more", b"after"))
    assert read(form, sizes) == (content, "ло г.csv")


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (form_of(part("other", b"x")), 422),
        (form_of(), 422),
        (form_of(part("file", b"x"))[:-20], 400),
        (b"", 400),
        (b"no form at all", 400),
        (b"--" + BOUNDARY.encode() + b"\r\n" + b"a" * 40_000, 400),
    ],
)
def test_what_is_no_form_is_a_problem(form: bytes, status: int) -> None:
    with pytest.raises(Problem) as raised:
        read(form)
    assert raised.value.status_code == status


def test_boundaries() -> None:
    assert boundary_of('multipart/form-data; boundary="a b"') == "a b"
    assert boundary_of("multipart/form-data; boundary=----WebKit1") == "----WebKit1"
    assert boundary_of("text/csv") is None
    assert boundary_of("") is None
    for wrong in (
        "multipart/form-data",
        "multipart/form-data; boundary=",
        'multipart/form-data; boundary="a\\r"',
    ):
        with pytest.raises(Problem):
            boundary_of(wrong)
