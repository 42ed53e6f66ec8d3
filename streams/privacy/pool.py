"""Worker processes that mask texts: the event loop stays free, and a text that kills or hangs a worker takes
no other with it.

A worker has one batch at a time, so that it is known which batch it was lost with. That batch is masked again
by a new worker, then in halves; a text that was lost alone cannot be masked.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import orjson

from streams.core.background import gathered
from streams.core.errors import ConfigurationError, LabelstreamError, UnavailableError
from streams.privacy.entities import Entity

# With names a worker has 150 MB and masks some 300 texts a second.
_MOST_WORKERS = 2
_BATCH_TEXTS, _BATCH_CHARACTERS = 32, 65_536
# Far more than a batch takes on a busy machine: whoever needs longer never ends.
PATIENCE_SECONDS = 60.0
_END_SECONDS = 2.0
_STARTS = 3
_LONGEST_LINE = 2**28
_SETTING = "PRIVACY_ENTITIES"
# What a worker needs of the environment: not the secrets.
_ENVIRONMENT = (
    *("PATH", "PYTHONPATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYTHONWARNINGS", "PYTHONUTF8", "SYSTEMROOT"),
)


class MaskedText(NamedTuple):
    """A text without its personal data, and how much of it there was."""

    text: str
    counts: dict[Entity, int]


class _LostError(LabelstreamError):
    """The worker has ended, or had to be ended, while it was masking."""


class MaskingPool:
    """Masks texts in at most so many ``workers``, which start when they are needed. ``answered``: texts that
    a worker has answered so far.
    """

    answered = 0

    def __init__(
        self,
        entities: frozenset[Entity],
        *,
        workers: int | None = None,
        patience: float = PATIENCE_SECONDS,
        module: str = "streams.privacy.worker",
    ) -> None:
        """``patience``: seconds for a batch. ``module``: what a worker runs."""
        self._command = [sys.executable, "-m", module, ",".join(sorted(entities))]
        self._patience = patience
        self._free = asyncio.Semaphore(workers or min(_MOST_WORKERS, os.cpu_count() or 1))
        self._idle: list[_Worker] = []
        self._closed = False

    async def start(self) -> None:
        """Start one worker.

        Raises:
            ConfigurationError: a library is missing.
            UnavailableError: no process can be started.
        """
        async with self._free:
            if not self._idle:
                self._idle.append(await _Worker.start(self._command))

    async def mask(self, texts: Sequence[str]) -> list[MaskedText | None]:
        """Each text masked; None for one that cannot be. Of texts beyond what the workers hold the batches
        wait here, so call it with no more texts than a page.

        Raises: as `start`.
        """
        distinct = list(dict.fromkeys(texts))
        batches = list(_batches(distinct))
        masked = await gathered(self._mask(batch) for batch in batches)
        found = {
            text: one
            for batch, some in zip(batches, masked, strict=True)
            for text, one in zip(batch, some, strict=True)
        }
        return [found[text] for text in texts]

    async def close(self) -> None:
        """Stop the workers."""
        self._closed = True
        idle, self._idle = self._idle, []
        await gathered(worker.end() for worker in idle)

    async def _mask(self, texts: list[str], *, again: bool = False) -> list[MaskedText | None]:
        try:
            found = await self._ask(texts)
        except _LostError:
            if not again:
                return await self._mask(texts, again=True)
        else:
            self.answered += len(texts)
            return found
        if len(texts) == 1:
            self.answered += 1
            return [None]
        half = len(texts) // 2
        return [
            *await self._mask(texts[:half], again=True),
            *await self._mask(texts[half:], again=True),
        ]

    async def _ask(self, texts: list[str]) -> list[MaskedText | None]:
        async with self._free:
            worker = self._idle.pop() if self._idle else await _Worker.start(self._command)
            try:
                answer = await worker.ask(texts, self._patience)
            except BaseException:  # also a cancelled one: its answer would be taken for the next one's
                await worker.kill()
                raise
            if self._closed:
                await worker.end()
            else:
                self._idle.append(worker)
            return answer


class _Worker:
    """One process."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, command: Sequence[str]) -> _Worker:
        """One that masks. If it ends at its start, because something has killed it, another one is tried."""
        for _ in range(_STARTS - 1):
            with contextlib.suppress(_LostError):
                return await cls._started(command)
        try:
            return await cls._started(command)
        except _LostError:
            raise UnavailableError("the masking process ended at its start") from None

    @classmethod
    async def _started(cls, command: Sequence[str]) -> _Worker:
        one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,  # a traceback may quote a text
                limit=_LONGEST_LINE,
                env={name: os.environ[name] for name in _ENVIRONMENT if name in os.environ} | one_thread,
                start_new_session=True,  # Ctrl-C is for the role, which ends it
            )
        except OSError as error:
            raise UnavailableError(f"no masking process can be started: {error.strerror}") from error
        worker = cls(process)
        try:
            told = orjson.loads(await worker._line(PATIENCE_SECONDS))
        except BaseException:
            await worker.kill()
            raise
        if "error" in told:
            await worker.kill()
            raise ConfigurationError(told["error"], setting=told["setting"] or _SETTING, fix=told["fix"])
        return worker

    async def ask(self, texts: list[str], patience: float) -> list[MaskedText | None]:
        """Raises:
        _LostError: it does not answer.
        """
        pipe = self._process.stdin
        assert pipe is not None
        line = orjson.dumps([text.encode("utf-8", "replace").decode() for text in texts]) + b"\n"
        try:
            pipe.write(line)
            async with asyncio.timeout(patience):
                await pipe.drain()
        except (OSError, RuntimeError, TimeoutError) as error:
            raise _LostError(type(error).__name__) from None
        answer = orjson.loads(await self._line(patience))
        return [
            None if one is None else MaskedText(one[0], {Entity(name): n for name, n in one[1].items()})
            for one in answer
        ]

    async def _line(self, patience: float) -> bytes:
        pipe = self._process.stdout
        assert pipe is not None
        try:
            async with asyncio.timeout(patience):
                line = await pipe.readline()
        except (OSError, ValueError, TimeoutError) as error:
            await self.kill()
            raise _LostError(type(error).__name__) from None
        if not line.endswith(b"\n"):
            await self.kill()
            raise _LostError("it has ended")
        return line

    async def end(self) -> None:
        """Let it end."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_SECONDS):
                await self._process.wait()
        await self.kill()

    async def kill(self) -> None:
        """End it now."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for text in texts:
        if some and (len(some) >= _BATCH_TEXTS or size + len(text) > _BATCH_CHARACTERS):
            yield some
            some, size = [], 0
        some.append(text)
        size += len(text)
    if some:
        yield some
