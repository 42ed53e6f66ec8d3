"""One file for each role: connects its parts and runs it."""
