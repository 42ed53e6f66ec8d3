"""Faults of three brokers."""
