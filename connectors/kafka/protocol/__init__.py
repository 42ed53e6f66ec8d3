"""Requests of Kafka's protocol that aiokafka lacks, or whose answers it parses wrongly."""
