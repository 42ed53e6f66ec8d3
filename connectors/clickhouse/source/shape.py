"""The source table's columns: their names as SQL, how its times are read and bounded."""

from __future__ import annotations

import re
from dataclasses import dataclass

import structlog

from connectors.clickhouse.client.sql import qualified, quoted
from streams.core.errors import ConfigurationError
from streams.core.settings import Settings

log = structlog.get_logger()

_SECOND = 1_000_000
_TIMES = re.compile(r"^(?:Nullable\()?(Date32|DateTime64|DateTime|Date)\b(?:\((\d))?")
_TEXTS = re.compile(r"^(?:LowCardinality\()?(?:Nullable\()?(?:String|FixedString)")


@dataclass(frozen=True)
class Shape:
    """The columns, quoted; empty where the source has none."""

    table: str
    time_type: str
    text: str
    time: str
    id: str
    user: str
    session: str
    domain: str

    @property
    def timed_always(self) -> bool:
        """Whether no row can be without a time."""
        return "Nullable" not in self.time_type

    @property
    def micros(self) -> str:
        """A row's time in microseconds since 1970, UTC."""
        return f"toUnixTimestamp64Micro(toDateTime64(assumeNotNull({self.time}), 6))"

    @property
    def values(self) -> str:
        """The row's five texts as the table holds them, NULLs too."""
        return (
            f"{_text(self.id)} AS id_, toNullable({self.text}) AS text_,\n"
            f"    {_text(self.user)} AS user_, {_text(self.session)} AS session_, "
            f"{_text(self.domain)} AS domain_"
        )

    @property
    def tie(self) -> str:
        """What orders rows of one time: the id, or a hash of user and text."""
        # A hash of NULL is NULL, and would put all rows without a user into one.
        user, text = f"ifNull({_text(self.user)}, '')", f"ifNull({_text(self.text)}, '')"
        digest = f"hex(sipHash128({user}, {text}))"
        return f"ifNull(nullIf({_text(self.id)}, ''), {digest})" if self.id else digest

    def bounds(self, since: bool = True, until: bool = True) -> str:
        """Rows with a time, from the parameter ``since`` and before ``until``, each of them if asked for.

        The bare column is compared too, to a second around, so that the server can use its index.
        """
        parts = ["1"]
        if not self.timed_always:
            parts.append(f"{self.time} IS NOT NULL")
        if since:
            parts.append(f"{self.time} >= {self._bare('{since:Int64}')}")
            parts.append(f"{self.micros} >= {{since:Int64}}")
        if until:
            parts.append(f"{self.time} <= {self._bare(f'({{until:Int64}} + {_SECOND})')}")
            parts.append(f"{self.micros} < {{until:Int64}}")
        return " AND ".join(parts)

    def _bare(self, micros: str) -> str:
        """``micros`` as a value of the time column's own type, truncated towards the past."""
        found = _TIMES.match(self.time_type)
        kind = found.group(1) if found else "DateTime64"
        if kind in ("DateTime", "Date"):  # what these cannot hold would come out as another time altogether
            micros = f"least(greatest({micros}, 0), {(2**32 - 1) * _SECOND})"
        whole = f"fromUnixTimestamp64Micro({micros}, 'UTC')"
        if kind == "DateTime64":
            return f"toDateTime64({whole}, {found.group(2) if found and found.group(2) else 6}, 'UTC')"
        return f"to{kind}({whole}, 'UTC')" if kind == "DateTime" else f"to{kind}({whole})"


def shape_of(settings: Settings, found: dict[str, str]) -> Shape:
    """The shape of a table with the columns ``found`` (their types by name).

    Raises:
        ConfigurationError: a column that is not there, or of a type that cannot serve.
    """
    name = settings.source_table

    def needed(setting: str) -> str:
        column: str = getattr(settings, setting)
        if column not in found:
            raise ConfigurationError(
                f"{name} has no column {column}; it has {', '.join(found)}",
                setting=setting.upper(),
                fix=f"set {setting.upper()} to one of them",
            )
        return column

    def optional(setting: str) -> str:
        column: str = getattr(settings, setting)
        if not column:
            return ""
        if column in found:
            return quoted(column)
        if setting in settings.model_fields_set:
            return quoted(needed(setting))
        log.info("the source has no such column and goes without", column=column, setting=setting.upper())
        return ""

    text, time = needed("clickhouse_text_column"), needed("clickhouse_timestamp_column")
    if not _TEXTS.match(found[text]):
        raise ConfigurationError(
            f"column {text} of {name} is {found[text]}, not a String",
            setting="CLICKHOUSE_TEXT_COLUMN",
            fix="name the column with the query's text",
        )
    if not _TIMES.match(found[time]):
        raise ConfigurationError(
            f"column {time} of {name} is {found[time]}, not a DateTime",
            setting="CLICKHOUSE_TIMESTAMP_COLUMN",
            fix="name a DateTime or DateTime64 column",
        )
    return Shape(
        table=qualified(settings.clickhouse_database, settings.clickhouse_table),
        time_type=found[time],
        text=quoted(text),
        time=quoted(time),
        id=optional("clickhouse_id_column"),
        user=optional("clickhouse_user_id_column"),
        session=optional("clickhouse_session_id_column"),
        domain=optional("clickhouse_domain_column"),
    )


def _text(column: str) -> str:
    return f"toNullable(toString({column}))" if column else "CAST(NULL, 'Nullable(String)')"
