"""A line to ClickHouse that can cut the answer to an insert."""

from __future__ import annotations

import asyncio


class Line:
    """A line to ClickHouse that cuts the answer of the next insert."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._cut = False
        self.cuts = 0
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut_next(self) -> None:
        self._cut = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to, away = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        inserts = False

        async def requests() -> None:
            nonlocal inserts
            while data := await reader.read(1 << 16):
                inserts = inserts or b"INSERT INTO" in data
                away.write(data)
                await away.drain()

        async def answers() -> None:
            nonlocal inserts
            while data := await to.read(1 << 16):
                if inserts and self._cut:
                    self._cut = False
                    self.cuts += 1
                    return
                inserts = False
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(requests()), asyncio.create_task(answers())]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in (writer, away):
            one.close()
