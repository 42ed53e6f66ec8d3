"""What an operator asks: check, status, dead letters."""
