"""The source table: its columns, their types, reading and exporting it."""
