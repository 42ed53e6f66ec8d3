"""SQL that makes a case's table, by its engine, and fills it."""

from __future__ import annotations

from collections.abc import Sequence

from tests.integration.tables.cases import IDS, USERS, Case
from tests.integration.tables.server import CLUSTER

# A table that merges rows may have columns that are neither in the key nor merged.
_OTHER_COLUMNS = "allow_dimensions_outside_sorting_key = 1"


def statements(made: Case) -> list[str]:
    """To be run in the database `t`. `given` holds the rows: n UInt32, t Nullable(Int64)."""
    source = f"{_quoted(made.database)}.{_quoted(made.table)}"
    return [statement.replace("t.source", source) for statement in _statements(made)]


def _statements(made: Case) -> list[str]:
    names = {part: _quoted(name) for part, name in made.names.items() if name != "none"}
    time_type, types = made.declared, {"timestamp": made.declared, **made.types}
    values = {"timestamp": f"if(isNull(t), NULL, {made.time.sql('assumeNotNull(t)')})"}
    if "Nullable" not in time_type:
        values["timestamp"] = made.time.sql("assumeNotNull(t)")
    values["text"] = "concat('question number ', toString(n))"
    values["id"] = IDS[made.types["id"]][0]
    values |= {part: USERS[types[part]] for part in ("user_id", "session_id", "domain")}
    parts = list(names)
    columns = [(names[part], types[part]) for part in parts]
    filling = [values[part] for part in parts]
    extra = [(_quoted(name), "String") for name in made.extra]

    def table(
        name: str, engine: str, more: Sequence[tuple[str, str]] = (), renamed: Sequence[str] = ()
    ) -> str:
        shown = [(new, kind) for new, (_, kind) in zip(renamed, columns, strict=False)] or columns
        body = ", ".join(f"{column} {kind}" for column, kind in [*shown, *extra, *more])
        return f"CREATE TABLE t.{name} ({body}) ENGINE = {engine}"

    def fill(name: str, values: Sequence[str], into: Sequence[str] = (), more: str = "") -> str:
        target = ", ".join(into or [names[part] for part in parts])
        return f"INSERT INTO t.{name} ({target}) SELECT {', '.join(values)}{more} FROM t.given"

    key = "SETTINGS allow_nullable_key = 1"
    id_, time = names.get("id", "tuple()"), names["timestamp"]
    plain = [f"c{number}" for number in range(len(parts))]
    shown = ", ".join(f"{column} AS {name}" for column, (name, _) in zip(plain, columns, strict=True))
    base = [table("base", "MergeTree ORDER BY tuple()", renamed=plain), fill("base", filling, plain)]
    match made.store:
        case "MergeTree time":
            return [table("source", f"MergeTree ORDER BY {time} {key}"), fill("source", filling)]
        case "MergeTree id":
            order = f"({id_}, {time})" if "id" in names else time
            return [table("source", f"MergeTree ORDER BY {order} {key}"), fill("source", filling)]
        case "MergeTree":
            return [table("source", "MergeTree ORDER BY tuple()"), fill("source", filling)]
        case "Memory" | "Log" | "TinyLog" | "StripeLog":
            return [table("source", made.store), fill("source", filling)]
        case "projection":
            projected = f"PROJECTION p (SELECT * ORDER BY {names['text']})"
            made_ = table("source", f"MergeTree ORDER BY {time} {key}")
            return [made_.replace(") ENGINE", f", {projected}) ENGINE"), fill("source", filling)]
        case kind if "Replacing" in kind and kind != "Replacing deleted":
            order = id_ if made.store != "Replacing time" else f"({time}, {id_})"
            older = list(filling)
            older[parts.index("text")] = "concat('older number ', toString(n))"
            if made.store != "Replacing time" and "Nullable" not in time_type:
                # The version before may be of another time.
                older[parts.index("timestamp")] = made.time.sql("assumeNotNull(t) - (assumeNotNull(t) > 3)")
            into = [*(names[part] for part in parts), "`v e r`"]
            above, _, _ = kind.rpartition(" of ")
            name = "replaced" if above else "source"
            there = [
                table(name, f"ReplacingMergeTree(`v e r`) ORDER BY {order} {key}", [("`v e r`", "UInt8")]),
                f"SYSTEM STOP MERGES t.{name}",
                fill(name, older, into, ", 1"),
                fill(name, filling, into, ", 2"),
                fill(name, filling, into, ", 2"),
            ]
            made_of = {
                "": [],
                "View": ["CREATE VIEW t.source AS SELECT * FROM t.replaced"],
                "Buffer": [f"CREATE TABLE t.source AS t.replaced {_buffer('replaced')}"],
                "Distributed": [f"CREATE TABLE t.source AS t.replaced {_distributed('replaced')}"],
            }
            return there + made_of[above]
        case "Replacing deleted":
            into = [*(names[part] for part in parts), "`v e r`", "gone_"]
            engine = f"ReplacingMergeTree(`v e r`, gone_) ORDER BY {id_} {key}"
            others = "(SELECT toUInt32(n + 100) AS n, t FROM t.given)"
            gone = fill("source", filling, into, ", 1, 0").replace("t.given", others)
            return [
                table("source", engine, [("`v e r`", "UInt8"), ("gone_", "UInt8")]),
                "SYSTEM STOP MERGES t.source",
                fill("source", filling, into, ", 1, 0"),
                gone,
                gone.replace(", 1, 0", ", 2, 1"),
            ]
        case "Aggregating":
            columns = [(name, _newest(name, type_, id_)) for name, type_ in columns]
            older = [*filling]
            older[parts.index("text")] = "concat('older number ', toString(n))"
            return [
                table("source", f"AggregatingMergeTree ORDER BY {id_} {key}, {_OTHER_COLUMNS}"),
                "SYSTEM STOP MERGES t.source",
                fill("source", older),
                fill("source", filling),
            ]
        case "Collapsing":
            into = [*(names[part] for part in parts), "`s i g n`"]
            engine = f"CollapsingMergeTree(`s i g n`) ORDER BY {id_} {key}"
            older = [*filling]
            older[parts.index("text")] = "concat('older number ', toString(n))"
            return [
                table("source", engine, [("`s i g n`", "Int8")]),
                "SYSTEM STOP MERGES t.source",
                fill("source", older, into, ", 1"),
                fill("source", older, into, ", -1"),
                fill("source", filling, into, ", 1"),
            ]
        case "View":
            return [*base, f"CREATE VIEW t.source AS SELECT {shown} FROM t.base"]
        case "View of two":
            halves = [f"SELECT {shown} FROM t.base WHERE position(toString(c1), '1') {one} 0" for one in "=>"]
            return [*base, f"CREATE VIEW t.source AS {' UNION ALL '.join(halves)}"]
        case "MaterializedView TO":
            view = "CREATE MATERIALIZED VIEW t.source TO t.target AS SELECT"
            target = table("target", "MergeTree ORDER BY tuple()")
            return _fed(base[0], target, f"{view} {shown} FROM t.base", base[1])
        case "MaterializedView":
            view = "CREATE MATERIALIZED VIEW t.source ENGINE = MergeTree ORDER BY tuple() AS SELECT"
            return _fed(base[0], f"{view} {shown} FROM t.base", base[1])
        case "Merge":
            made_ = [table(f"m{number}", "MergeTree ORDER BY tuple()") for number in (1, 2)]
            halves = [fill(f"m{number}", filling) + f" WHERE n % 2 = {number - 1}" for number in (1, 2)]
            return [*made_, *halves, "CREATE TABLE t.source AS t.m1 ENGINE = Merge('t', '^m[12]$')"]
        case "Buffer":
            there = [table("base", f"MergeTree ORDER BY {time} {key}"), fill("base", filling)]
            buffer = f"CREATE TABLE t.source AS t.base {_buffer('base')}"
            return [there[0], f"{there[1]} WHERE n % 2", buffer, f"{fill('source', filling)} WHERE n % 2 = 0"]
        case "Distributed":
            there = [table("base", "MergeTree ORDER BY tuple()"), fill("base", filling)]
            return [*there, f"CREATE TABLE t.source AS t.base {_distributed('base')}"]
    # Columns that are made of others.
    place, kind = parts.index("timestamp"), made.store
    kept = [pair for number, pair in enumerate(columns) if number != place]
    body = ", ".join(f"{column} {type_}" for column, type_ in [*kept, *extra])
    source = f"CREATE TABLE t.source (`k e p t` {time_type}, {body}, {time} {time_type} {kind} `k e p t`)"
    into = ["`k e p t`", *(column for column, _ in kept)]
    order = [filling[place], *(value for number, value in enumerate(filling) if number != place)]
    return [f"{source} ENGINE = MergeTree ORDER BY tuple()", fill("source", order, into)]


def _newest(column: str, declared: str, key: str) -> str:
    """The type of a column that takes the newest value when rows of one key are merged."""
    plain = column == key or declared.startswith("SimpleAggregateFunction")
    return declared if plain else f"SimpleAggregateFunction(anyLast, {declared})"


def _buffer(table: str) -> str:
    """A buffer that keeps what is inserted into it."""
    return f"ENGINE = Buffer(t, {table}, 1, 3600, 3600, 1000000, 1000000, 1000000000, 1000000000)"


def _distributed(table: str) -> str:
    return f"ENGINE = Distributed('{CLUSTER}', 't', '{table}')"


def _quoted(name: str) -> str:
    return f"`{name}`"


def _fed(*statements: str) -> list[str]:
    """With a table of another name below: the server may remember that it fed a view, when both are gone,
    and then refuses to insert into a later table of that name.
    """
    return [one.replace("t.base", "t.feeding") for one in statements]
