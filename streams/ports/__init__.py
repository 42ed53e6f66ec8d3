"""What a part asks of another one, as protocols."""
