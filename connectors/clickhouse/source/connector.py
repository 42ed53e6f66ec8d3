"""The source table as a library: logs of some days as a DataFrame or a file.

::

    from connectors.clickhouse import ClickHouseConfig, ClickHouseConnector

    with ClickHouseConnector(ClickHouseConfig(host="clickhouse.local", database="esk")) as connector:
        frame = connector.fetch_logs(days=7, limit=10_000)
        connector.export_to_file("data/logs.csv", days=1)

Synchronous, also inside a running event loop. Both methods run the requirements' query: rows of today and of
``days`` days before (by the server's calendar), texts longer than 3 bytes, newest first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

import pyarrow as pa
import structlog
from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError, model_validator

from connectors.clickhouse.client.client import ClickHouseClient
from connectors.clickhouse.source.export import SCHEMA, WRITERS, Format
from connectors.clickhouse.source.shape import Select
from connectors.clickhouse.source.table import SourceRow, SourceTable
from streams.core.errors import ConfigurationError, LabelstreamError, optional_packages
from streams.core.settings import Settings

if TYPE_CHECKING:
    import pandas as pd

log = structlog.get_logger()

T = TypeVar("T")
# Sorting many rows may take long before the first of them arrives.
_ANSWER_SECONDS = 300.0

# The fields of ClickHouseConfig, and their settings.
_SETTINGS = {
    "host": "clickhouse_host",
    "port": "clickhouse_port",
    "username": "clickhouse_username",
    "password": "clickhouse_password",
    "database": "clickhouse_database",
    "table_name": "clickhouse_table",
    "text_column": "clickhouse_text_column",
    "domain_column": "clickhouse_domain_column",
    "timestamp_column": "clickhouse_timestamp_column",
    "user_id_column": "clickhouse_user_id_column",
    "secure": "clickhouse_secure",
    "ca_cert": "clickhouse_ca_cert",
    "min_text_length": "min_text_length",
}


def _default(field: str) -> Any:
    return Settings.model_fields[_SETTINGS[field]].default


class ClickHouseConfig(BaseModel):
    """The location of the logs. A field that is None, as ``os.getenv`` returns it, has its setting's default.

    ``domain_column`` and ``user_id_column`` may be missing in the table unless they are given here; `none`
    means that there is no such column. ``ca_cert``: a PEM file.

    Raises:
        ConfigurationError: no host, or an invalid value; the text names the field.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int = _default("port")
    username: str = _default("username")
    password: SecretStr = _default("password")
    database: str = _default("database")
    table_name: str = _default("table_name")
    text_column: str = _default("text_column")
    domain_column: str = _default("domain_column")
    timestamp_column: str = _default("timestamp_column")
    user_id_column: str = _default("user_id_column")
    secure: bool = _default("secure")
    ca_cert: Path | None = _default("ca_cert")
    min_text_length: int = _default("min_text_length")

    def __init__(self, **values: Any) -> None:
        given = {name: value for name, value in values.items() if value is not None}
        if not given.get("host"):
            raise ConfigurationError(
                "ClickHouseConfig has no host", setting="CLICKHOUSE_HOST", fix="set it to your server"
            )
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise ConfigurationError(_told(error), setting=_setting_of(error)) from None

    @model_validator(mode="after")
    def _as_settings_allow(self) -> Self:
        self.settings()
        return self

    @classmethod
    def from_settings(cls, settings: Settings) -> ClickHouseConfig:
        """The settings' source table.

        Raises:
            ConfigurationError: no host.
        """
        chosen = settings.model_fields_set | {"clickhouse_host"}
        given = {name: setting for name, setting in _SETTINGS.items() if setting in chosen}
        return cls(**{name: getattr(settings, setting) for name, setting in given.items()})

    def settings(self) -> Settings:
        """The same as settings, with the given fields set."""
        return Settings(**{_SETTINGS[name]: getattr(self, name) for name in self.model_fields_set})


class ClickHouseConnector:
    """Reads the logs; never writes to ClickHouse. Connects at the first query."""

    def __init__(self, config: ClickHouseConfig, *, id_column: str = "", private: bool = False) -> None:
        """``id_column``: read for ``keep`` of `export_to_file` alone. ``private``: errors quote nothing."""
        self.config = config
        # Not read here, so no message about it is needed.
        self._settings = config.settings().model_copy(
            update={
                "clickhouse_id_column": id_column,
                "clickhouse_session_id_column": "",
                "privacy": "mask" if private else "off",
            }
        )
        self._client = ClickHouseClient.from_settings(self._settings, answer_seconds=_ANSWER_SECONDS)
        self._table = SourceTable(self._client, self._settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def connect(self) -> bool:
        """Whether ClickHouse answers and accepts the user. If not, the reason is logged."""
        try:
            self._client.call(lambda driver: driver.command("SELECT 1"))
        except LabelstreamError as error:
            log.warning(
                "no connection to ClickHouse",
                reason=str(error),
                setting=getattr(error, "setting", "") or None,
                fix=getattr(error, "fix", "") or None,
            )
            return False
        return True

    def fetch_logs(self, days: int = 7, limit: int | None = None) -> pd.DataFrame:
        """The logs of today and of ``days`` days before, newest first, at most ``limit``.

        Columns: ``text``, ``domain`` and ``user_id`` (str or missing), ``ts`` (datetime64[us, UTC]).

        Raises:
            UnavailableError: ClickHouse does not answer.
            ConfigurationError: no such table or column, one of a wrong type, a wrong password, negative
                ``days`` or ``limit``.
        """
        with optional_packages("a data frame"):
            import pandas  # noqa: F401, pyarrow imports it
        blocks: list[Any] = []
        self._read(days, limit, blocks.append)
        frame: pd.DataFrame = pa.concat_tables([SCHEMA.empty_table(), *blocks]).to_pandas()
        return frame

    def export_to_file(
        self,
        path: str | os.PathLike[str],
        days: int = 1,
        format: Format = "csv",
        limit: int | None = None,
        convert: Callable[[pa.Table], pa.Table] | None = None,
        keep: Callable[[Sequence[SourceRow]], Sequence[bool]] | None = None,
    ) -> int:
        """Write the rows of ``fetch_logs`` to ``path``, in blocks; returns the number of written rows.

        Creates the folder. UTF-8; times in UTC; a missing value is empty in csv (an empty text is `""`) and
        null otherwise. The file appears when it is complete, and replaces an older one. ``convert``: is given
        each block (columns `text`, `domain`, `ts`, `user_id`), and what it returns is written. ``keep``: says
        which rows of a block, as the table has them, are converted and written.

        Raises:
            as ``fetch_logs``; ConfigurationError also for an unknown format or an unwritable path.
        """
        if format not in WRITERS:
            raise ConfigurationError(
                f"there is no export format {format!r}", fix=f"use one of {', '.join(WRITERS)}"
            )
        target = Path(path)
        # A name of its own for each export: two of them must not write one file.
        partial = target.with_name(f".{target.name}.{os.getpid()}-{id(object())}.part")
        rows = 0
        with contextlib.ExitStack() as stack:
            with _file_errors(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                stack.callback(partial.unlink, missing_ok=True)
                file = partial.open("wb")
                stack.callback(_close, file)
                writer = WRITERS[format](file)

            def write(block: Any) -> None:
                nonlocal rows
                if convert is not None:
                    block = convert(block)
                rows += block.num_rows
                with _file_errors(target):
                    writer.write(block)

            self._read(days, limit, write, keep)
            with _file_errors(target):
                writer.close()
                file.close()
                partial.replace(target)
        return rows

    def close(self) -> None:
        """Close the connections; the object cannot be used again."""
        _in_own_loop(self._client.close())

    def _read(
        self,
        days: int,
        limit: int | None,
        take: Callable[[Any], None],
        keep: Callable[[Sequence[SourceRow]], Sequence[bool]] | None = None,
    ) -> None:
        """Pass the rows to ``take``, one Arrow table of SCHEMA after the other."""
        for name, number in (("days", days), ("limit", limit)):
            if number is not None and number < 0:
                raise ConfigurationError(f"{name} is {number}", fix="give a number that is not negative")
        select = _in_own_loop(self._select(days, limit, whole=keep is not None))

        def some(columns: Any) -> None:
            take(_qualified(columns) if keep is None else _kept(columns, keep))

        # Rows are known by their bytes.
        self._client.stream(select.sql, select.parameters, some, strings_as_bytes=keep is not None)

    async def _select(self, days: int, limit: int | None, *, whole: bool) -> Select:
        await self._table.inspect()
        shape, since = await self._table.shape(), await self._table.begin(days)
        return shape.select(
            ("text", "domain", "time", "user", *(["id"] if whole else [])),
            since,
            longer_than=self._settings.min_text_length,
            utf8=not whole,
            order="DESC",
            limit=limit,
        )


def _qualified(columns: Any) -> Any:
    texts, domains, times, users = columns
    moments = pa.array(times, pa.int64()).cast(SCHEMA.field("ts").type)
    arrays = [pa.array(texts, pa.string()), pa.array(domains, pa.string()), moments]
    return pa.table([*arrays, pa.array(users, pa.string())], schema=SCHEMA)


def _kept(columns: Any, keep: Callable[[Sequence[SourceRow]], Sequence[bool]]) -> Any:
    """Of columns with bytes and an id the table of those rows that ``keep`` lets pass."""
    rows = [
        SourceRow(int(micros), b"", id_, text, user, None, domain)
        for text, domain, micros, user, id_ in zip(*columns, strict=True)
    ]
    kept = [row for row, stays in zip(rows, keep(rows), strict=True) if stays]
    texts, users, domains = (
        [None if value is None else value.decode("utf-8", "replace") for value in values]
        for values in ([one.text for one in kept], [one.user for one in kept], [one.domain for one in kept])
    )
    return _qualified((texts, domains, [one.micros for one in kept], users))


@contextlib.contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(
            f"cannot write {path}: {error.strerror or error}", fix="choose a folder that can be written to"
        ) from error


def _close(file: IO[bytes]) -> None:
    """Close it; after an error it may fail in the same way again, which would replace what is told."""
    with contextlib.suppress(OSError):
        file.close()


def _in_own_loop(work: Coroutine[Any, Any, T]) -> T:
    """The result of ``work``; the caller's thread may have a running loop."""
    with ThreadPoolExecutor(1, thread_name_prefix="clickhouse-connector") as thread:
        return thread.submit(asyncio.run, work).result()


def _told(error: ValidationError) -> str:
    """One line for each problem, without the values: one of them may be the password."""
    return "\n".join(
        f"ClickHouseConfig {'.'.join(map(str, item['loc'])) or 'values'}: "
        + str(item["msg"]).removeprefix("Value error, ")
        for item in error.errors(include_url=False, include_input=False)
    )


def _setting_of(error: ValidationError) -> str:
    where = error.errors(include_url=False, include_input=False)[0]["loc"]
    name = str(where[0]) if where else ""
    setting = _SETTINGS.get(name, name)
    return setting.upper() if setting in Settings.model_fields else ""
