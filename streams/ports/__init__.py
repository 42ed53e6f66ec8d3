"""What one part needs of another, as protocols."""
