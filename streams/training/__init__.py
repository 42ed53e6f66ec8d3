"""Teaches the proxies of cascades, certifies and watches them: what the trainer does."""
