"""The outside world: ClickHouse, Kafka, the LLM endpoints, and the local stack."""
