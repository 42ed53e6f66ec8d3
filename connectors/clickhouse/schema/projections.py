"""Projections: what is asked of whole tables, kept in each part of a table beside its rows.

ClickHouse writes and merges them with the rows, deletes from them what is deleted from the table, and reads
the table itself where a part has none. So a query is right with or without them, and only its cost differs.

A materialized view would do the same with a table of its own, but an insert that is killed between the two
leaves one of them without the rows, for ever.

Where a merge removes a message that was stored twice, the projections are made anew from what is left.
"""

from __future__ import annotations

from connectors.clickhouse.client.sql import literal
from streams.core.label_version import HUMAN, UNDONE

# Offsets are kept by runs of so many: a bitmap of at most 8 KiB for each. `intDiv` is a function for which
# the index of `_offset` can be used, where there is no projection.
RUN = 1 << 16
RUN_OF = f"intDiv(_offset, {RUN})"
IN_RUN = f"groupBitmap(toUInt32(bitAnd(_offset, {RUN - 1})))"
# A row with a human label has a line of its own; all others of a run share one for each version.
_IS_HUMAN = f"label_version = {literal(HUMAN)}"
HUMAN_ROW = f"if({_IS_HUMAN}, row_id, '')"
HUMAN_AT = f"if({_IS_HUMAN}, created_at, toDateTime64(0, 6, 'UTC'))"
TAKEN_BACK = f"{_IS_HUMAN} AND endsWith(model, {literal(UNDONE)})"
# What people answered, whole: the table would be read in a thousand rows for each.
ANSWER_PARTS = (
    "text",
    "source_domain",
    "label",
    "model",
    "labeled_at",
    "drawn_by",
    "draw_probability",
    "_offset",
)
ANSWERS_OF = f"groupArrayIf(tuple({', '.join(ANSWER_PARTS)}), {_IS_HUMAN})"
# Exact up to some thousands, then within two percent.
DISTINCT_ROWS = "uniqCombined(14)(created_at, row_id)"

_RUN_KEYS = f"_topic_id, _partition, {RUN_OF}"
_RUN_VALUES = f"min(_offset), max(_offset), {IN_RUN}"
# Where messages stand in Kafka.
STORED_PLACES = f"SELECT {_RUN_KEYS}, {_RUN_VALUES}\n    GROUP BY {_RUN_KEYS}"
# The same for labels, and how many rows have each version. One projection instead of two: each makes a part
# of its own, which costs a small insert as much as its rows do.
_LABEL_KEYS = f"{_RUN_KEYS}, label_version, {HUMAN_ROW}, {HUMAN_AT}, {TAKEN_BACK}"
LABEL_PLACES = (
    f"SELECT {_LABEL_KEYS},\n"
    f"        {_RUN_VALUES},\n"
    f"        {DISTINCT_ROWS}, count(), max(labeled_at), min(created_at), max(created_at),\n"
    f"        {ANSWERS_OF}\n"
    f"    GROUP BY {_LABEL_KEYS}"
)
# When the rows of an id are.
ROW_TIMES = "SELECT row_id, created_at ORDER BY row_id"

# When merges remove rows, and for people who delete some by DELETE FROM.
MODES = "deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild'"
