"""How the producer hands batches to the brokers: a partition that cannot be written waits alone."""
