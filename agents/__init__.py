"""The steps that process a row, one file each. No Kafka and no HTTP here."""
