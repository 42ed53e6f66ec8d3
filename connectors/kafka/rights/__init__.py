"""Rights in Kafka: which are needed, and which the connected user has."""
