"""Requests of Kafka's protocol that aiokafka lacks, or reads wrongly."""
