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
# A row with a human label has a line of its own; all others share one for each version, label and flag.
HUMAN_ROW = f"if(label_version = {literal(HUMAN)}, row_id, '')"
HUMAN_AT = f"if(label_version = {literal(HUMAN)}, created_at, toDateTime64(0, 6, 'UTC'))"
TAKEN_BACK = f"label_version = {literal(HUMAN)} AND endsWith(model, {literal(UNDONE)})"
# Exact up to some 65,000, then within a percent.
DISTINCT_ROWS = "uniq(created_at, row_id)"

# Where messages stand in Kafka.
STORED_PLACES = (
    f"SELECT _topic_id, _partition, {RUN_OF}, min(_offset), max(_offset), {IN_RUN}\n"
    f"    GROUP BY _topic_id, _partition, {RUN_OF}"
)
# When the rows of an id are.
ROW_TIMES = "SELECT row_id, created_at ORDER BY row_id"
# How many rows have each version and label.
_COUNT_KEYS = f"label_version, label, {HUMAN_ROW}, {HUMAN_AT}, {TAKEN_BACK}"
LABEL_COUNTS = (
    f"SELECT {_COUNT_KEYS},\n"
    f"        {DISTINCT_ROWS}, count(), max(labeled_at), min(created_at), max(created_at)\n"
    f"    GROUP BY {_COUNT_KEYS}"
)

# When merges remove rows, and for people who delete some by DELETE FROM.
MODES = "deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild'"
