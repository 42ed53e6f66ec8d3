"""Who works on it: one file a step, no Kafka and no HTTP in them."""
