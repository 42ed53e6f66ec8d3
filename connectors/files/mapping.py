"""Finds which column of a file is what: by name, by content, or by the column order of ClickHouse's
export.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from connectors.files.questions import NONE, Findings
from connectors.files.times import Dates, is_number, time_in
from streams.core.settings import Settings

ROLES = ("text", "timestamp", "id", "user", "session", "domain")
# How programs write that there is no value.
NULLS = frozenset({"", r"\N", "NULL", "null", "NaN", "nan", "None", "NaT", "<NA>"})
NULLS |= {"NA", "N/A", "n/a", "#N/A", "#Н/Д", "(null)", "[NULL]", "<null>", "ᴺᵁᴸᴸ"}
# And how spreadsheets write that a formula has none.
NULLS |= {"#VALUE!", "#REF!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"}
NULLS |= {"#ЗНАЧ!", "#ССЫЛКА!", "#ИМЯ?", "#ДЕЛ/0!", "#ЧИСЛО!", "#ПУСТО!"}
# Common names, after those in the settings and the requirements' aliases. Compared without case and
# punctuation.
_NAMES = {
    "text": "text querytext query message utterance question request phrase "
    "текст запрос сообщение вопрос обращение фраза текстзапроса текстобращения текстсообщения",
    "timestamp": "ts createdat timestamp datetime time date created eventtime "
    "датавремя датаивремя дата время создано датасоздания датаобращения",
    "id": "id rowid logid uuid ид идентификатор",
    "user": "userid user clientid customerid пользователь клиент idклиента idпользователя",
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
# Which of them it is does not matter yet.
_WAYS: tuple[Dates, ...] = ("day-month-year", "month-day-year", "excel-days")
_TIME_WORD = re.compile(
    r"(?<![^\W\d_])(?:date|time|datetime|timestamp|ts|dt|дата|время|created|at)(?![^\W\d_])|[a-z](?:Date|Time|At)\b",
    re.I,
)

_ID_WORD = re.compile(r"(?<![^\W\d_])(?:id|no|num|number|ид|номер)(?![^\W\d_])|[a-z]Id\b", re.I)


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


class _Table:
    """The columns of a file, and what its first records have in each."""

    def __init__(self, columns: Sequence[str], sample: Sequence[Sequence[Any]]) -> None:
        self.columns = columns
        self.values = {
            name: [row[at] for row in sample if not is_null(row[at])] for at, name in enumerate(columns)
        }

    def times(self, name: str, *, numbers: bool) -> float:
        """The share of times. ``numbers``: a number may be one, because the name says so."""
        values = self.values[name]
        held = [one for one in values if numbers or not is_number(one)]
        return sum(any(time_in(one, way) for way in _WAYS) for one in held) / max(1, len(values))

    def wordiness(self, name: str) -> float:
        """How similar to a query's text it is: long, with letters and blanks, and with different values."""
        values = [one for one in self.values[name] if isinstance(one, str)]
        if not values or self.times(name, numbers=False) > 0.5:
            return 0.0
        letters = sum(sum(character.isalpha() for character in value) for value in values) / len(values)
        blanks = sum(" " in value.strip() for value in values) / len(values)
        return min(letters, 100) * (0.1 + blanks) * (0.1 + len(set(values)) / len(values))


def suggested(
    columns: Sequence[str],
    sample: Sequence[Sequence[Any]],
    settings: Settings,
    findings: Findings,
    *,
    named: bool,
    given: Mapping[str, str | None],
) -> dict[str, str]:
    """Part and column, as far as they can be detected. ``named``: the file itself names its columns.
    ``given``: what the client says.
    """
    table = _Table(columns, sample)
    known = names_of(settings)
    found: dict[str, str] = {}
    if not named:
        found = _by_place(table, findings)
    else:
        for role in ROLES:
            if role not in ("text", "timestamp") and (there := _called(known[role], columns, found)):
                found[role] = there[0]
    found |= {role: name for role, name in given.items() if name is not None and name in columns}
    if "timestamp" not in given and "timestamp" not in found and sample:
        sure = _called(known["timestamp"], columns, found) if named else []
        maybe = [name for name in columns if _TIME_WORD.search(name) and not _ID_WORD.search(name)]
        names = list(dict.fromkeys([*sure, *maybe])) if named else []
        names = [name for name in names if name not in found.values()]
        if time := _time(table, names, sure, set(found.values()), findings, named=named):
            found["timestamp"] = time
    if "text" not in given and "text" not in found:
        names = _called(known["text"], columns, found)
        certain = bool(names) and plain(names[0]) in known["text"][:3]
        if text := _text(table, names if named else [], set(found.values()), findings, certain=certain):
            found["text"] = text
    return {role: found[role] for role in found if role not in given or given[role]}


def _called(names: Sequence[str], columns: Sequence[str], found: Mapping[str, str]) -> list[str]:
    """The columns with one of ``names``, in the order of the names."""
    plains = {plain(column): column for column in reversed(columns) if column not in found.values()}
    return [plains[name] for name in dict.fromkeys(names) if name and name in plains]


def _by_place(table: _Table, findings: Findings) -> dict[str, str]:
    times = [at for at, name in enumerate(table.columns) if table.times(name, numbers=False) >= 0.9]
    places = _PLACES.get((len(table.columns), times[0])) if times else None
    if places is None or not table.wordiness(table.columns[places.index("text")]):
        return {}
    findings.warn("export")
    return dict(zip(places, table.columns, strict=False))


def _time(
    table: _Table,
    names: Sequence[str],
    sure: Sequence[str],
    taken: Collection[str],
    findings: Findings,
    *,
    named: bool,
) -> str | None:
    shares = {name: table.times(name, numbers=True) for name in names}
    held = [name for name in names if shares[name] > 0]
    told: dict[str, Any]
    if held and (held[0] in sure or len(held) == 1):
        best = held[0] if shares[held[0]] >= 0.5 else max(held, key=lambda name: shares[name])
        if shares[best] < 0.9:
            findings.warn("some times", share=shares[best], name=best)
        return best
    others = [name for name in table.columns if name not in taken and name not in names]
    choices = held or [name for name in others if table.times(name, numbers=False) >= 0.9]
    if not held and any(table.values[name] for name in names):
        told = {"code": "no times", "name": names[0], "none": NONE}
    elif len(choices) > 1:
        told = {"code": "several times", "names": ", ".join(choices)}
    elif choices:
        findings.warn("time by values", name=choices[0])
        return choices[0]
    elif not (numbers := [name for name in others if table.times(name, numbers=True) >= 0.9]):
        return None
    elif named:
        findings.warn("numbers", name=numbers[0])
        return None
    else:
        told, choices = {"code": "numbers as times", "name": numbers[0]}, [NONE, *numbers]
    answer = findings.ask("timestamp", [*choices, NONE], (choices or [NONE])[0], **told)
    return answer if answer != NONE else None


def _text(
    table: _Table, names: list[str], taken: set[str], findings: Findings, *, certain: bool
) -> str | None:
    free = [name for name in table.columns if name not in taken]
    wordy = {name: table.wordiness(name) for name in free}
    ranked = sorted((name for name in free if wordy[name] > 0), key=lambda name: -wordy[name])
    if names and (not ranked or (certain and wordy[names[0]])):
        return names[0]
    good = [name for name in names if wordy.get(name, 0) > 0]
    if len(good) == 1 and (not ranked or wordy[good[0]] >= 0.4 * wordy[ranked[0]]):
        return good[0]
    if not ranked:
        return None
    rivals = [name for name in ranked if wordy[name] >= 0.4 * wordy[ranked[0]] or name in good]
    if len(rivals) == 1 and (len(free) == 1 or any(" " in str(one) for one in table.values[rivals[0]])):
        if len(free) > 1:
            findings.warn("text by values", name=rivals[0])
        return rivals[0]
    guess = good[0] if good else rivals[0]
    return findings.ask("text", [*rivals, *ranked], guess, "texts", names=", ".join(rivals))


def is_null(value: object) -> bool:
    """Whether it says that there is no value."""
    return value is None or (isinstance(value, str) and value.strip() in NULLS)
