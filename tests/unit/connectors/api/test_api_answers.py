"""What the routes ask of their ports, and how answers and errors look."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs

from connectors.api.routes.params import cursor_of, place_in
from streams.core.errors import (
    AccessError,
    ConfigurationError,
    OverloadedError,
    RefusedError,
    RetryableError,
    UnavailableError,
)
from streams.core.messages import Augmented, DeadLetter
from streams.observability.collectors import ApiRequests
from streams.ports.lookups import LabelPage, LabelQuery, Place, RowHistory
from tests.unit.connectors.api.fakes import NOW, Fakes, client_of, labeled

SECRET = "http://user:hunter2@10.0.0.5:8123 SELECT secret FROM t"


async def test_every_error_is_a_problem() -> None:
    async with client_of(Fakes()) as client:
        for method, path, body, status in (
            ("GET", "/nothing", None, 404),
            ("GET", "/labels/", None, 404),
            ("PUT", "/labels", None, 405),
            ("GET", "/rows/nobody", None, 404),
            ("GET", "/labels?limit=0", None, 422),
            ("GET", "/labels?since=2026", None, 422),
            ("GET", "/labels?since=2026-01-01T00:00:00", None, 422),
            ("GET", "/labels?min_confidence=nan", None, 422),
            ("GET", "/labels?cursor=x", None, 422),
            ("POST", "/classify", b"{", 422),
            ("POST", "/classify", b"\xff", 400),
            ("POST", "/classify", b'{"text": "\\ud800"}', 422),
            ("POST", "/classify", b'{"text": "a", "texts": ["b"]}', 422),
            ("POST", "/classify", json.dumps({"texts": ["a"] * 101}).encode(), 422),
        ):
            answer = await client.request(method, path, content=body)
            problem = answer.json()
            assert answer.status_code == problem["status"] == status, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert {"type", "title", "detail", "code"} <= set(problem)
            if status == 422:
                assert problem["errors"][0]["location"].split(".")[0] in ("query", "body", "path")
        for path, methods in (("/labels", "GET"), ("/rows/a/b", "GET"), ("/jobs/x", "DELETE, GET")):
            assert (await client.put(path)).headers["allow"] == methods
        wrong = await client.post("/classify", content=b"<a/>", headers={"Content-Type": "text/xml"})
        assert wrong.status_code == 415


@pytest.mark.parametrize(
    ("error", "status", "after"),
    [
        (UnavailableError(SECRET, setting="CLICKHOUSE_HOST"), 503, "5"),
        (OverloadedError(SECRET, after=7.2), 503, "8"),
        (RetryableError(SECRET), 503, "5"),
        (ConfigurationError(SECRET, setting="CLICKHOUSE_TABLE"), 503, "5"),
        (AccessError(SECRET, setting="CLICKHOUSE_PASSWORD"), 503, "5"),
        (RefusedError(SECRET, reason="refused-by-table"), 422, None),
        (ValueError(SECRET), 500, None),
    ],
)
async def test_an_error_inside_tells_no_secret_and_no_trace(
    error: Exception, status: int, after: str | None
) -> None:
    with capture_logs() as logged:
        await _refused(error, status, after)
    # The log tells it, for whoever is to mend it.
    assert len(logged) == (2 if status == 422 else 3)


async def _refused(error: Exception, status: int, after: str | None) -> None:
    async with client_of(Fakes(error=error)) as client:
        for path in ("/labels", "/rows/1", "/stream/labeled"):
            if path == "/stream/labeled" and status == 422:
                continue  # answered as a position that is none
            answer = await client.get(path)
            assert (answer.status_code, answer.headers.get("retry-after")) == (status, after)
            for word in ("hunter2", "10.0.0.5", "SELECT", "Traceback", "ValueError", ".py"):
                assert word not in answer.text
            setting = getattr(error, "setting", "")
            assert setting in answer.json()["detail"]


async def test_a_row_s_way_is_told_whole_and_namesakes_are_kept_apart() -> None:
    early = NOW - timedelta(days=30)
    variant = Augmented(
        **labeled(label_version="v2").model_dump(),
        variants=["где заказ мой"],
        augment_model="q",
        augmented_at=NOW,
    )
    letters = [
        DeadLetter(row_id="42", step="label", reason="gave-up", failed_at=NOW, payload=b"\xff\x00"),
        DeadLetter(row_id="42", step="store", reason="refused", failed_at=NOW, payload='{"a":"я"}'.encode()),
    ]
    history = RowHistory(
        [labeled(label_version="v2"), labeled(), labeled(text="другое", created_at=early)],
        frozenset({(NOW, "v2"), (early, "v1")}),
        [variant],
        letters,
    )
    async with client_of(Fakes(rows={"a/42": history})) as client:
        found = (await client.get("/rows/a%2F42")).json()
    assert (found["text"], found["created_at"]) == ("где мой заказ", "2026-01-31T09:30:00Z")
    assert [(one["label_version"], one["current"]) for one in found["labels"]] == [
        ("v2", True),
        ("v1", False),
    ]
    assert [one["variants"] for one in found["variants"]] == [["где заказ мой"]]
    (older,) = found["namesakes"]
    assert (older["text"], older["labels"][0]["current"], older["variants"]) == ("другое", True, [])
    assert [
        (one["payload"], one["payload_base64"], one["payload_bytes"]) for one in found["dead_letters"]
    ] == [
        (None, "/wA=", 2),
        ('{"a":"я"}', None, 10),
    ]


async def test_a_row_that_was_given_up_before_its_label_is_found() -> None:
    letter = DeadLetter(row_id="7", step="poll", reason="too-large", failed_at=NOW)
    async with client_of(Fakes(rows={"7": RowHistory([], frozenset(), [], [letter])})) as client:
        found = (await client.get("/rows/7")).json()
    assert (found["row_id"], found["text"], found["labels"]) == ("7", None, [])
    assert found["dead_letters"][0]["reason"] == "too-large"


async def test_filters_reach_the_tables_and_the_next_page_begins_where_this_one_ends() -> None:
    fakes = Fakes(page=LabelPage([labeled()], Place(NOW, "42")))
    async with client_of(fakes) as client:
        first = (
            await client.get(
                "/labels?text=%D0%B3%D0%B4%D0%B5&label=delivery&min_confidence=0.1&max_confidence=1&limit=7"
                "&since=2026-01-01T00:00:00+03:00&until=2026-02-01T00:00:00Z&version=v1"
            )
        ).json()
        await client.get("/labels", params={"cursor": first["next"]})
    assert first["labels"][0]["row_id"] == "42"
    query = LabelQuery(
        text="где",
        label="delivery",
        min_confidence=0.1,
        max_confidence=1.0,
        since=datetime(2025, 12, 31, 21, tzinfo=UTC),  # a plus that was not escaped, too
        until=datetime(2026, 2, 1, tzinfo=UTC),
        version="v1",
    )
    assert fakes.asked == [(query, None, 7), (LabelQuery(), Place(NOW, "42"), 50)]


@pytest.mark.parametrize("row_id", ["42", "upload:ab:1", "я/\x00'\"", "💥" * 100])
@pytest.mark.parametrize("at", [NOW, datetime(1969, 1, 1, tzinfo=UTC), NOW + timedelta(microseconds=1)])
def test_a_cursor_is_read_as_it_was_written(row_id: str, at: datetime) -> None:
    assert place_in(cursor_of(Place(at, row_id))) == Place(at, row_id)


@pytest.mark.parametrize("cursor", ["99999999999999999.ff", "-99999999999999999.00", "0.c3"])
def test_any_cursor_of_the_form_is_a_place(cursor: str) -> None:
    assert place_in(cursor).created_at.tzinfo is UTC


async def test_texts_are_classified_in_their_order_whatever_curl_calls_the_body() -> None:
    fakes = Fakes()
    async with client_of(fakes) as client:
        answer = await client.post(
            "/classify",
            content='{"texts": ["один", "два"]}'.encode(),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert [one["text"] for one in answer.json()["results"]] == ["один", "два"]
        one = (await client.post("/classify", json={"text": "три"})).json()["results"]
    assert [(found["text"], found["label"], found["error"]) for found in one] == [("три", "delivery", None)]
    assert fakes.asked == [["один", "два"], ["три"]]


async def test_the_openapi_document_has_an_example_for_each_operation_and_loads_nothing() -> None:
    async with client_of(Fakes()) as client:
        document = (await client.get("/openapi.json")).json()
        assert (await client.get("/docs")).status_code == 404
    schemas = document["components"]["schemas"]

    def has_example(content: dict[str, Any]) -> bool:
        if "example" in content or "examples" in content:
            return True
        if "binary" in str(content):  # a file
            return True
        # In the schema, or in that of what it lists.
        names = re.findall(r"#/components/schemas/(\w+)", str(content))
        return any(has_example(schemas[name]) for name in names)

    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"], (method, path)
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert has_example(content), (method, path)
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    assert has_example(content), (method, path, status)


async def test_requests_are_counted_by_route_and_never_by_what_a_client_sent() -> None:
    requests = ApiRequests()
    async with client_of(Fakes(), observe=requests.observe) as client:
        await client.get("/rows/secret-number-1")
        await client.get("/rows/secret-number-2")
        await client.get("/no/such/page-3")
        await client.request("BREW", "/labels")
        await client.get("/labels", params={"limit": "none"})
    counts, seconds = requests.collect()
    found = {tuple(sample.labels.values()): sample.value for sample in counts.samples}
    assert found == {
        ("/rows/{row_id}", "GET", "404"): 2,
        ("other", "GET", "404"): 1,
        ("/labels", "OTHER", "405"): 1,
        ("/labels", "GET", "422"): 1,
    }
    observed = {sample.labels["route"]: sample.value for sample in seconds.samples if "_count" in sample.name}
    assert observed == {"/rows/{row_id}": 2, "other": 1, "/labels": 2}
