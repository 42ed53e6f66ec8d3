"""Metrics, health, logs and the watchdog of a role."""
