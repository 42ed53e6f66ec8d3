"""Finds which column of a file is what: by name, by content, or by the column order of ClickHouse's
export.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from connectors.files.times import time_in
from streams.core.settings import Settings

ROLES = ("text", "timestamp", "id", "user", "session", "domain")
# Common names, after those in the settings and the requirements' aliases. Compared without case and
# punctuation.
_NAMES = {
    "text": "text querytext query message utterance question request phrase "
    "текст запрос сообщение вопрос обращение фраза",
    "timestamp": "ts createdat timestamp datetime time date created eventtime датавремя дата время создано",
    "id": "id rowid logid uuid ид идентификатор",
    "user": "userid user clientid customerid пользователь клиент",
    "session": "sessionid session dialogid conversationid callid сессия диалог",
    "domain": "domain sourcedomain topic category домен тема категория",
}
_SETTINGS = {
    "text": "clickhouse_text_column",
    "timestamp": "clickhouse_timestamp_column",
    "id": "clickhouse_id_column",
    "user": "clickhouse_user_id_column",
    "session": "clickhouse_session_id_column",
    "domain": "clickhouse_domain_column",
}
_ALIASES = {"ts": "timestamp", "created_at": "timestamp", "user_id": "user", "session_id": "session"}
# The column order of the requirements' SQL and of their table, for a file without names.
_PLACES: dict[tuple[int, int], tuple[str, ...]] = {
    (4, 2): ("text", "domain", "timestamp", "user"),
    (6, 3): ("id", "text", "domain", "timestamp", "user", "session"),
    (7, 3): ("id", "text", "domain", "timestamp", "user", "session"),
}


class Columns(BaseModel):
    """The column for each part of a row; without `timestamp`, rows get the time of the upload."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    text: str = Field(description="Column with the text.")
    timestamp: str | None = Field(default=None, description="Column with the row's time.")
    id: str | None = Field(default=None, description="Column with an id, given back in the result.")
    user: str | None = Field(default=None, description="Column with the user.")
    session: str | None = Field(default=None, description="Column with the session.")
    domain: str | None = Field(default=None, description="Column with the domain that the source noted.")

    @classmethod
    def named(cls, given: Mapping[str, str | None]) -> dict[str, str | None]:
        """``given`` with the names of the fields as keys; the requirements' aliases are accepted.

        Raises:
            ValidationError: an unknown part, or a column that is not a name.
        """
        named = {_ALIASES.get(name, name): column for name, column in given.items()}
        cls.model_validate({"text": "any", **{name: column for name, column in named.items() if column}})
        return named

    def missing(self, columns: Iterable[str]) -> dict[str, str]:
        """Part and column of those that the file does not have."""
        there = set(columns)
        return {role: name for role, name in self.model_dump().items() if name and name not in there}

    @classmethod
    def of(cls, found: Mapping[str, str]) -> Self | None:
        """The columns that were found; None without a text."""
        return cls(**found) if "text" in found else None


def plain(name: str) -> str:
    """A column's name in the form for comparisons."""
    return "".join(character for character in name.casefold() if character.isalnum())


def names_of(settings: Settings) -> dict[str, list[str]]:
    """The names that a column of each part may have, most likely first."""
    return {role: [plain(getattr(settings, _SETTINGS[role])), *_NAMES[role].split()] for role in ROLES}


def known_names(settings: Settings) -> set[str]:
    """The names of all parts."""
    return {name for names in names_of(settings).values() for name in names if name}


def suggested(
    columns: Sequence[str], sample: Sequence[Sequence[Any]], settings: Settings, *, named: bool
) -> dict[str, str]:
    """Part and column, as far as they can be detected. ``named``: the file itself names its columns."""
    if named:
        found = _by_name(columns, settings)
        time = columns.index(found["timestamp"]) if "timestamp" in found else None
        if time is not None and sample and not any(time_in(row[time]) for row in sample):
            del found["timestamp"]  # a column of that name without times in it
        if "text" in found:
            return found
    else:
        found = {}
    times = [index for index in range(len(columns)) if _all(sample, index, lambda v: time_in(v) is not None)]
    if not named and times:
        places = _PLACES.get((len(columns), times[0]))
        if places is not None:
            return dict(zip(places, columns, strict=False))
    taken = set(found.values())
    if times and "timestamp" not in found and columns[times[0]] not in taken:
        found["timestamp"] = columns[times[0]]
        taken.add(columns[times[0]])
    wordy = max(
        (index for index in range(len(columns)) if columns[index] not in taken),
        key=lambda index: _wordiness(sample, index),
        default=None,
    )
    if wordy is not None and _wordiness(sample, wordy) > 0:
        found["text"] = columns[wordy]
    return found


def _by_name(columns: Sequence[str], settings: Settings) -> dict[str, str]:
    found: dict[str, str] = {}
    plains = [plain(column) for column in columns]
    for role, names in names_of(settings).items():
        for name in names:
            if name and name in plains and columns[plains.index(name)] not in found.values():
                found[role] = columns[plains.index(name)]
                break
    return found


def _all(sample: Sequence[Sequence[Any]], index: int, holds: Any) -> bool:
    values = [row[index] for row in sample if row[index] not in (None, "")]
    return bool(values) and sum(map(holds, values)) >= 0.9 * len(values)


def _wordiness(sample: Sequence[Sequence[Any]], index: int) -> float:
    """How similar to a query's text a column is: long, with letters and blanks, and with different values."""
    values = [row[index] for row in sample if isinstance(row[index], str)]
    if not values:
        return 0.0
    letters = sum(sum(character.isalpha() for character in value) for value in values) / len(values)
    blanks = sum(" " in value.strip() for value in values) / len(values)
    return letters * (0.1 + blanks) * (0.1 + len(set(values)) / len(values))
