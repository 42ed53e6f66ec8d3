"""Kafka, ClickHouse and an LLM stand-in on one machine, without Docker."""
