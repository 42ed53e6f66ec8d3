"""What is kept of earlier looks at the audit's days."""

from __future__ import annotations

from connectors.clickhouse.queries.draw import KnownDraws


async def test_an_answer_is_kept_for_the_same_labels_and_for_an_hour() -> None:
    now = 0.0
    known = KnownDraws(lambda: now)
    looks = 0

    async def look() -> int:
        nonlocal looks
        looks += 1
        return looks

    assert [await known.of("a", 1, look), await known.of("a", 1, look)] == [1, 1]
    assert [await known.of("a", 2, look), await known.of("b", 2, look)] == [2, 3]
    now = 3599.0
    assert await known.of("a", 2, look) == 2
    now = 3601.0
    assert await known.of("a", 2, look) == 4


async def test_questions_that_nobody_asks_any_more_are_forgotten() -> None:
    known = KnownDraws(lambda: 0.0)
    looks: list[int] = []

    async def look() -> int:
        looks.append(0)
        return 0

    for number in range(1000):
        await known.of(number, 0, look)
        await known.of("often", 0, look)
    assert len(looks) == 1001
    await known.of(0, 0, look)
    assert len(looks) == 1002
