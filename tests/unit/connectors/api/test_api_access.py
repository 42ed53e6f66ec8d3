"""Keys and scopes, foreign pages, limits, and headers."""

from __future__ import annotations

from hashlib import sha256

import httpx
import pytest

from connectors.api.access.limits import Rate
from connectors.api.problems import Problem
from streams.core.api_keys import parse_keys
from streams.core.environment import load
from streams.core.errors import ConfigurationError
from streams.roles.api import options_of
from tests.unit.connectors.api.fakes import Fakes, client_of

READ, WRITE = "read-me-if-you-can", "write-me-if-you-can"
KEYS = parse_keys(f"dashboard:read:{READ}, loader:write:sha256={sha256(WRITE.encode()).hexdigest()}")


def paths_of(client: httpx.AsyncClient) -> list[tuple[str, str]]:
    """Method and path of every operation."""
    document = client._transport.app.openapi()  # type: ignore[attr-defined]
    return [
        (method.upper(), path.replace("{", "").replace("}", ""))
        for path, operations in document["paths"].items()
        for method in operations
    ]


async def test_without_a_key_every_operation_but_health_is_closed() -> None:
    async with client_of(Fakes(), keys=KEYS) as client:
        paths = paths_of(client)
        assert len(paths) > 5
        for method, path in [*paths, ("GET", "/openapi.json"), ("GET", "/nothing"), ("TRACE", "/labels")]:
            for headers in (
                {},
                {"X-API-Key": "wrong"},
                {"Authorization": f"Basic {READ}"},
                {"X-API-Key": "ключ".encode()},
            ):
                answer = await client.request(method, path, headers=headers)
                open_path = path in ("/healthz", "/readyz")
                assert answer.status_code == (200 if open_path else 401), (method, path)
                if not open_path:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_read_key_may_not_write_and_a_write_key_may_read() -> None:
    async with client_of(Fakes(), keys=KEYS) as client:
        for method, path in [*paths_of(client), ("DELETE", "/nothing"), ("PATCH", "/labels")]:
            answer = await client.request(method, path, headers={"X-API-Key": READ})
            writes = method not in ("GET", "HEAD") and path != "/classify"
            assert (answer.status_code == 403) is writes, (method, path)
        assert (await client.get("/labels", headers={"Authorization": f"bearer {WRITE}"})).status_code == 200
        assert (await client.delete("/nothing", headers={"X-API-Key": WRITE})).status_code == 404


async def test_of_two_keys_both_have_to_be_right() -> None:
    async with client_of(Fakes(), keys=KEYS) as client:
        for bearer, key, status in (
            (READ, READ, 200),
            (READ, "x", 401),
            ("x", READ, 401),
            (READ, WRITE, 401),
        ):
            answer = await client.get(
                "/labels", headers={"Authorization": f"Bearer {bearer}", "X-API-Key": key}
            )
            assert answer.status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:9999"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_a_foreign_page_changes_nothing(headers: dict[str, str]) -> None:
    fakes = Fakes()
    async with client_of(fakes) as client:
        answer = await client.post("/classify", json={"text": "привет всем"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (403, "foreign-origin")
        assert fakes.asked == []
        own = await client.post(
            "/classify", json={"text": "привет всем"}, headers={"Origin": "http://localhost:8080"}
        )
        assert own.status_code == 200


async def test_without_keys_only_this_machine_s_names_are_answered() -> None:
    async with client_of(Fakes()) as client:
        for host, status in (("evil.example", 403), ("", 403), ("[::1]:8080", 200), ("127.0.0.1", 200)):
            answer = await client.get("/labels", headers={"Host": host})
            assert answer.status_code == status, host
        assert (await client.get("/healthz", headers={"Host": "10.0.0.7:8080"})).status_code == 200


async def test_no_answer_may_be_framed_sniffed_or_read_by_other_origins() -> None:
    async with client_of(Fakes()) as client:
        for path in ("/labels", "/nothing"):
            answer = await client.get(path, headers={"Origin": "http://evil.example"})
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in answer.headers["content-security-policy"]
            assert not any(name.startswith("access-control") for name in answer.headers)


async def test_a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_served() -> None:
    async with client_of(Fakes(), keys=KEYS, requests_per_second=1.0) as client:
        answers = [await client.get("/labels", headers={"X-API-Key": READ}) for _ in range(4)]
        assert [one.status_code for one in answers] == [200, 200, 429, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1
        assert (await client.get("/labels", headers={"X-API-Key": WRITE})).status_code == 200
        assert (await client.get("/healthz")).status_code == 200


async def test_guessing_keys_is_slowed() -> None:
    async with client_of(Fakes(), keys=KEYS, requests_per_second=1.0) as client:
        statuses = [
            (await client.get("/labels", headers={"X-API-Key": "guess"})).status_code for _ in range(4)
        ]
        assert statuses == [401, 401, 429, 429]


def test_a_bucket_fills_again_and_is_forgotten_in_the_end() -> None:
    now = [0.0]
    rate = Rate(2.0, burst=2, clock=lambda: now[0])
    rate.take("a")
    rate.take("a")
    with pytest.raises(Problem) as caught:
        rate.take("a")
    assert caught.value.status_code == 429
    now[0] = 0.6
    rate.take("a")
    with pytest.raises(Problem):
        rate.take("a")
    for number in range(20_000):
        rate.take(str(number))
    assert len(rate._buckets) <= 10_001


async def test_a_body_may_not_be_larger_than_it_may_be() -> None:
    fakes = Fakes()
    async with client_of(fakes, body_bytes=1000) as client:
        large = b'{"text": "' + b"a" * 2000 + b'"}'

        async def pieces():  # type: ignore[no-untyped-def]
            for start in range(0, len(large), 100):
                yield large[start : start + 100]

        for content in (large, pieces()):  # with and without Content-Length
            answer = await client.post("/classify", content=content)
            assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
        read: list[bytes] = []

        async def declared():  # type: ignore[no-untyped-def]
            read.append(b"x")
            yield large

        answer = await client.post("/classify", content=declared(), headers={"Content-Length": "2010"})
        assert (answer.status_code, read) == (413, []), "what is too large by its own word is not read"
        lying = await client.post("/classify", content=b"{}", headers={"Content-Length": "many"})
        assert lying.status_code == 400
    assert fakes.asked == []


@pytest.mark.parametrize(
    "keys",
    [
        "secret",
        "a:read",
        "a:owner:long-enough-key",
        "a:read:short",
        "a:read:sha256=abc",
        "a:read:long-enough-1,a:write:long-enough-2",
        "a:read:long-enough-1,b:write:long-enough-1",
        "a b:read:long-enough-1",
        " , ",
    ],
)
def test_malformed_keys_are_refused_and_not_shown(keys: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load({"API_KEYS": keys}, None)
    assert "API_KEYS" in str(caught.value)
    for shown in ("long-enough", "short", "abc"):
        assert shown not in str(caught.value)


def test_without_keys_the_api_is_for_this_machine_only() -> None:
    for host in ("0.0.0.0", "10.0.0.1", "::", "labels.internal"):
        with pytest.raises(ConfigurationError) as caught:
            options_of(load({"API_HOST": host}, None))
        assert caught.value.setting == "API_KEYS"
        assert options_of(load({"API_HOST": host, "API_KEYS": f"a:read:{READ}"}, None)).keys
    for host in ("127.0.0.1", "::1", "localhost"):
        assert options_of(load({"API_HOST": host}, None)).keys == ()


async def test_each_scope_includes_those_before_it_and_a_refusal_names_the_missing_one() -> None:
    scopes = ("read", "review", "write", "admin")
    keys = parse_keys(", ".join(f"{scope}:{scope}:the-key-for-{scope}" for scope in scopes))
    asked = {
        "read": ("GET", "/nothing"),
        "review": ("POST", "/review/nothing"),
        "write": ("POST", "/nothing"),
    }
    async with client_of(Fakes(), keys=keys) as client:
        for at, scope in enumerate(scopes):
            for needed, (method, path) in asked.items():
                answer = await client.request(
                    method, path, headers={"X-API-Key": f"the-key-for-{scope}"}, content=b"{}"
                )
                if scopes.index(needed) <= at:
                    assert answer.status_code == 404, (scope, needed)
                else:
                    assert answer.status_code == 403
                    assert (answer.json()["scope"], answer.json()["needed"]) == (scope, needed)
    with pytest.raises(ValueError, match="none of read, review, write, admin"):
        parse_keys("anna:owner:the-key-of-anna")
