"""The ClickHouse engine (chdb) behind a small HTTP front that behaves like ClickHouse's own HTTP interface.

Several processes share one store through it, and the ordinary HTTP client works unchanged:
``python -m connectors.local.clickhouse --path DIR --port N``.
"""
