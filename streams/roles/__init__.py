"""One file a role: puts its parts together and runs it."""
