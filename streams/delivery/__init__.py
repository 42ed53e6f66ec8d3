"""Turns a step's outcomes into sends, dead letters, pauses and commits."""
