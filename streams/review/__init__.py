"""The review queue: which row is labelled next, and by whom."""
