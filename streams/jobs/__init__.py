"""Replays and backfills: what a job is, who runs it, what it publishes."""
