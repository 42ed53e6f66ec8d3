"""Replicas of ClickHouse's engine on one machine: chdb, a ZooKeeper, and parts that are handed over here."""
