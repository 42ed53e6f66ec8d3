"""What every role needs to start, run and end."""
