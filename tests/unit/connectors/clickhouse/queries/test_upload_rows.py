"""The numbers of an upload's rows."""

from __future__ import annotations

from connectors.clickhouse.queries.upload_rows import Numbers


def test_numbers() -> None:
    numbers = Numbers()
    for number in (1, 8, 1_000_000):
        numbers.add(number)
    assert [n for n in (0, 1, 2, 8, 999_999, 1_000_000, 2_000_000) if n in numbers] == [1, 8, 1_000_000]
