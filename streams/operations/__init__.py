"""Commands for operators: check, status, dead letters."""
