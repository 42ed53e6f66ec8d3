"""Kafka through aiokafka: connection, lease, producer, group consumer, tail reader, administration."""
