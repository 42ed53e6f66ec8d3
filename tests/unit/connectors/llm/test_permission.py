"""What a client may send while its worker's lease is not held: nothing."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.connectors.llm.fakes import chat, client_of, serving, until

ASK: dict[str, Any] = {"messages": [{"role": "user", "content": "q"}], "max_tokens": 5}


async def test_nothing_is_sent_without_permission_and_all_of_it_with() -> None:
    async with serving(lambda *_: chat("ok")) as there, client_of(there.url) as client:
        allowed = False
        client.watch(permitted=lambda: allowed)
        asking = asyncio.create_task(client.complete(**ASK))
        await until(lambda: client.limit.in_flight == 1)
        for _ in range(5):
            await asyncio.sleep(0.01)
        assert there.asked == []
        allowed = True
        assert (await asking).text == "ok"
        allowed = False
        given_up = asyncio.create_task(client.complete(**ASK))
        await until(lambda: client.limit.in_flight == 1)
        given_up.cancel()
        await asyncio.wait([given_up])
        assert client.limit.in_flight == 0


async def test_permission_is_asked_for_again_as_the_request_is_written() -> None:
    """A process that was stopped after the first look must not send what another has asked by now."""
    async with serving(lambda *_: chat("ok")) as there, client_of(there.url) as client:
        looks = 0
        allowed = False

        def permitted() -> bool:
            nonlocal looks
            looks += 1
            return allowed or looks == 1

        client.watch(permitted=permitted)
        asking = asyncio.create_task(client.complete(**ASK))
        await until(lambda: looks > 3)
        assert there.paths == []
        allowed = True
        assert (await asking).text == "ok"

        looks, allowed = 0, False
        given_up = asyncio.create_task(client.complete(**ASK))
        await until(lambda: looks > 1)
        given_up.cancel()
        await asyncio.wait([given_up])
        allowed = True
        assert (await client.complete(**ASK)).text == "ok"
        assert len(there.asked) == 2
        assert client.limit.in_flight == 0
