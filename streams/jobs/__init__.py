"""Replays and backfills as jobs: what a job is, who runs it, what it publishes."""
