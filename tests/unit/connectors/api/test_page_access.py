"""The page's own files, sessions and the token, without anything behind them."""

from __future__ import annotations

from typing import Any, cast

import httpx
import pytest

from connectors.api.access.sessions import SESSION_SECONDS, Sessions, is_secure, session_in, set_cookie
from connectors.api.app import Options, create_app
from connectors.api.routes.page_files import page_files
from connectors.api.services import Services
from streams.core.api_keys import parse_keys
from streams.core.errors import GateError, RefusedError, UnavailableError
from streams.ports.audit import AuditEntry
from streams.ports.lookups import LabelPage, Place, RowHistory
from streams.ports.page import PagePorts
from streams.ports.review import ReviewRow
from tests.unit.connectors.api.fakes import NOW, Fakes, client_of, labeled

KEYS = parse_keys("anna:write:the-key-of-anna,viewer:read:the-key-of-a-viewer")


def test_a_session_is_known_until_it_ends_and_to_whoever_has_the_secret() -> None:
    now = [1000.0]
    sessions = Sessions(KEYS, "secret", clock=lambda: now[0])
    begun = sessions.begin(KEYS[0])
    assert sessions.owner(begun) is KEYS[0]
    assert Sessions(KEYS, "secret", clock=lambda: now[0]).owner(begun) is KEYS[0]
    assert Sessions(KEYS, "another", clock=lambda: now[0]).owner(begun) is None
    assert Sessions(KEYS, None, clock=lambda: now[0]).owner(begun) is None
    # Its key was taken out, or is another one under the same name.
    assert Sessions(KEYS[1:], "secret", clock=lambda: now[0]).owner(begun) is None
    other = parse_keys("anna:write:another-key-of-anna")
    assert Sessions(other, "secret", clock=lambda: now[0]).owner(begun) is None
    now[0] += SESSION_SECONDS + 1
    assert sessions.owner(begun) is None


def test_a_session_that_was_changed_is_nobody_s() -> None:
    sessions = Sessions(KEYS, "secret")
    begun = sessions.begin(KEYS[1])
    name, until, nonce, signature = begun.split("|")
    for forged in (
        f"anna|{until}|{nonce}|{signature}",
        f"{name}|{int(until) + 1}|{nonce}|{signature}",
        f"{name}|{until}|{nonce}|{signature[:-1]}x",
        f"{name}|{until}|{nonce}|",
        f"{name}|{'9' * 5000}|{nonce}|{signature}",
        "|||",
        "",
        "ключ",
    ):
        assert sessions.owner(forged) is None, forged


def test_the_token_is_of_one_session() -> None:
    sessions = Sessions(KEYS, "secret")
    one, other = sessions.begin(KEYS[0]), sessions.begin(KEYS[0])
    assert sessions.csrf_fits(one, sessions.csrf(one))
    for wrong in (sessions.csrf(other), "", one, "ключ"):
        assert not sessions.csrf_fits(one, wrong)


def test_the_cookie_is_read_back_and_is_for_https_behind_https() -> None:
    begun = Sessions(KEYS, "secret").begin(KEYS[0])
    header = set_cookie(begun, secure=True)
    assert "HttpOnly; SameSite=Strict; Secure" in header
    assert session_in(f"a=b; {header.partition(';')[0]}") == begun
    assert session_in("=;;\x00") == ""
    assert "Max-Age=0" in set_cookie("", secure=False)
    assert is_secure("http", "https://labels.example.test")
    assert not is_secure("http", "http://127.0.0.1")


@pytest.mark.parametrize("keys", [(), KEYS])
async def test_the_page_is_there_for_everybody_and_lets_nothing_else_in(keys: tuple[object, ...]) -> None:
    async with client_of(Fakes(), keys=keys) as client:
        for path in ("/", *(f"/assets/{name}" for name in page_files())):
            answer = await client.get(path)
            assert answer.status_code == 200, path
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            again = await client.get(path, headers={"If-None-Match": answer.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")
        for path in (
            "/assets/../auth.py",
            "/assets/%2e%2e/auth.py",
            "/assets//etc/passwd",
            "/assets/nothing.js",
        ):
            answer = await client.get(path)
            assert answer.status_code in (401, 404), path
            assert b"import" not in answer.content


def test_the_page_names_no_other_host() -> None:
    for name, file in page_files().items():
        text = file.content.decode()
        if name.startswith("vendor/"):
            continue
        for word in ("http:", "https:", "//cdn", "innerHTML", "eval(", "insertAdjacentHTML"):
            assert word not in text.replace("http://www.w3.org/2000/svg", ""), (name, word)


class Behind:
    """Stands for everything behind the page; keeps what was done and noted."""

    def __init__(self, error: Exception | None = None) -> None:
        self.done: list[tuple[str, str]] = []
        self.noted: list[AuditEntry] = []
        self.error = error

    async def steer(self, job: str, wish: str) -> dict[str, Any]:
        self.done.append((job, wish))
        if self.error is not None:
            raise self.error
        return {"id": job}

    async def promote(self, version: str, *, force: bool = False) -> dict[str, Any]:
        if not force:
            raise GateError("undecided: label 7 more rows", {"answer": "undecided", "more": 7})
        self.done.append((version, "forced"))
        return {"version": version, "forced": True, "verdict": {"text": "undecided: label 7 more rows"}}

    async def quality(self, version: str | None, by: str | None, accuracy: float) -> dict[str, Any]:
        if self.error is not None:
            raise self.error
        return {"asked": [version, by, accuracy]}

    async def letters(self, **_: Any) -> dict[str, Any]:
        letter = {"row_id": "9", "error": "", "payload": "x"}
        return {"dead_letters": [letter, {**letter, "row_id": ""}, letter]}

    async def rows(self, version: str | None, right: str, given: str) -> list[dict[str, Any]]:
        return [{"row_id": "10"}]

    async def entry(self, group: str, name: str) -> dict[str, Any]:
        return {"entry": {"name": name}, "rows": ["11", "12"]}

    async def drift_rows(self, series: str) -> list[dict[str, Any]]:
        return [{"row_id": "13", "text": "text"}]

    async def claim(self, owner: str, want: int, queue: str) -> list[ReviewRow]:
        return [ReviewRow(Place(NOW, "11"), "text", None)]

    async def skip(self, owner: str, place: Place, queue: str) -> None:
        if self.error is not None:
            raise self.error

    async def note(self, entry: AuditEntry) -> None:
        self.noted.append(entry)


def page_client(behind: Behind, fakes: Fakes | None = None, **options: Any) -> httpx.AsyncClient:
    fakes, anything = fakes or Fakes(), cast(Any, behind)
    page = PagePorts(
        overview=anything, operations=anything, review=anything, audit=anything, quality=anything
    )
    services = Services(health=fakes.health, lookups=fakes, classifier=fakes, feed=fakes, page=page)
    transport = httpx.ASGITransport(create_app(services, Options(**options)), client=("127.0.0.1", 1))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost:8080")


QUALITY_ROWS = "/quality/rows?right=a&given=b"
DRIFT_ROWS = "/quality/drift/rows?series=label:a"
NEW_ENTRY = "/quality/new/entry?group=0a&name=sim"
PAUSE = {"id": "job", "wish": "pause"}


async def test_without_keys_a_change_needs_the_page_s_token_all_the_same() -> None:
    behind = Behind()
    async with page_client(behind) as client:
        who = (await client.get("/session")).json()
        assert (who["name"], who["keys"]) == ("local", False)
        stale = {"Cookie": "labelstream_session=x", "X-CSRF-Token": "x"}
        for headers in ({}, stale, {"X-CSRF-Token": who["csrf"], "Origin": "http://example.test"}):
            assert (await client.post("/page/replays/steer", json=PAUSE, headers=headers)).status_code == 403
        assert (behind.done, behind.noted) == ([], [])
        answer = await client.post("/page/replays/steer", json=PAUSE, headers={"X-CSRF-Token": who["csrf"]})
        assert answer.status_code == 200
    assert behind.done == [("job", "pause")]
    (noted,) = behind.noted
    assert (noted.who, noted.address, noted.action, noted.target, noted.result) == (
        "local", "127.0.0.1", "replay-pause", "job", "done",
    )  # fmt: skip


async def test_with_keys_a_session_acts_with_its_token_only_and_a_viewer_s_not_at_all() -> None:
    behind = Behind()
    async with page_client(behind, keys=KEYS) as client:
        begun = (await client.post("/session", json={"key": "the-key-of-anna"})).json()
        assert (await client.post("/page/replays/steer", json=PAUSE)).status_code == 403
        token = {"X-CSRF-Token": begun["csrf"]}
        assert (await client.post("/page/replays/steer", json=PAUSE, headers=token)).status_code == 200
        ended = await client.delete("/session", headers=token)
        assert ended.json()["name"] is None
        assert (await client.post("/page/replays/steer", json=PAUSE, headers=token)).status_code == 401
        viewer = (await client.post("/session", json={"key": "the-key-of-a-viewer"})).json()
        token = {"X-CSRF-Token": viewer["csrf"]}
        assert (await client.post("/page/replays/steer", json=PAUSE, headers=token)).status_code == 403
        assert (await client.post("/session", json={"key": "no-key-of-anybody"})).status_code == 403
    assert behind.done == [("job", "pause")]
    assert [(one.who, one.action, one.result) for one in behind.noted] == [
        ("anna", "sign-in", "done"),
        ("anna", "replay-pause", "done"),
        ("anna", "sign-out", "done"),
        ("viewer", "sign-in", "done"),
        ("unknown", "sign-in", "wrong-key"),
    ]


@pytest.mark.parametrize(
    ("error", "status", "result"),
    [
        (RefusedError("it was dropped", reason="conflict"), 409, "conflict"),
        (UnavailableError("Kafka is away"), 503, "UnavailableError"),
    ],
)
async def test_what_fails_is_noted_with_its_reason(error: Exception, status: int, result: str) -> None:
    behind = Behind(error)
    async with page_client(behind) as client:
        token = (await client.get("/session")).json()["csrf"]
        answer = await client.post("/page/replays/steer", json=PAUSE, headers={"X-CSRF-Token": token})
    assert answer.status_code == status
    assert [one.result for one in behind.noted] == [result]


async def test_a_promotion_that_the_gate_refuses_is_a_conflict_and_is_forced_on_record() -> None:
    behind = Behind()
    async with page_client(behind) as client:
        token = {"X-CSRF-Token": (await client.get("/session")).json()["csrf"]}
        refused = await client.post("/page/versions/promote", json={"version": "v2"}, headers=token)
        assert refused.status_code == 409
        told = refused.json()
        assert (told["code"], told["verdict"]) == ("refused-by-gate", {"answer": "undecided", "more": 7})
        assert told["detail"] == "undecided: label 7 more rows"
        forced = {"version": "v2", "force": True}
        assert (await client.post("/page/versions/promote", json=forced, headers=token)).status_code == 200
    assert behind.done == [("v2", "forced")]
    assert [(one.target, one.result, one.detail) for one in behind.noted] == [
        ("v2", "refused-by-gate", ""),
        ("v2", "done", "forced: undecided: label 7 more rows"),
    ]


async def test_quality_is_asked_for_with_a_version_and_groups() -> None:
    behind = Behind()
    async with page_client(behind) as client:
        answer = await client.get("/quality?version=v1&by=week&accuracy=0.9")
        assert (answer.status_code, answer.json()) == (200, {"asked": ["v1", "week", 0.9]})
        assert (await client.get("/quality")).json() == {"asked": [None, None, 0.95]}
        for wrong in ("by=day", "accuracy=2", "version="):
            assert (await client.get(f"/quality?{wrong}")).status_code == 422
        behind.error = RefusedError("there is no current label version", reason="unknown-version")
        answer = await client.get("/quality")
        assert answer.status_code == 422
        assert "no current label version" in answer.text


async def test_who_looks_at_a_row_is_noted_and_no_id_that_nothing_is_stored_of() -> None:
    behind, fakes = Behind(), Fakes()
    fakes.rows["42"] = RowHistory([labeled()], frozenset(), [], [])
    fakes.page = LabelPage([labeled("7"), labeled("8")], None)
    headers = {"X-API-Key": "the-key-of-a-viewer"}
    async with page_client(behind, fakes, keys=KEYS) as client:
        found = ("/rows/42", "/rows/erased", "/labels?text=x", "/labels", "/page/letters")
        for path in (*found, QUALITY_ROWS, NEW_ENTRY, DRIFT_ROWS):
            assert (await client.get(path, headers=headers)).status_code in (200, 404)
    assert {(one.who, one.action) for one in behind.noted} == {("viewer", "look-row")}
    assert [(one.target, one.result, one.detail) for one in behind.noted] == [
        ("42", "done", ""),
        ("", "unknown-row", ""),
        ("7", "done", "search"),
        ("8", "done", "search"),
        ("9", "done", "dead letters"),
        ("10", "done", "quality"),
        ("11", "done", "quality"),
        ("12", "done", "quality"),
        ("13", "done", "quality"),
    ]


async def test_who_is_given_a_row_to_review_is_noted_and_no_refused_answer_names_it() -> None:
    behind = Behind()
    async with page_client(behind) as client:
        token = {"X-CSRF-Token": (await client.get("/session")).json()["csrf"], "X-Desk": "1"}
        (row,) = (await client.post("/review/claim", headers=token)).json()["rows"]
        behind.error = RefusedError("the row was erased", reason="not-found")
        answer = await client.post("/review/skip", json={"key": row["key"]}, headers=token)
        assert answer.status_code == 404
    assert [(one.action, one.target, one.result) for one in behind.noted] == [
        ("look-row", "11", "done"),
        ("review-skip", "", "not-found"),
    ]
