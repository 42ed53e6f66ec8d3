"""The source table as it is found: its columns, its shape, reading and exporting it."""
