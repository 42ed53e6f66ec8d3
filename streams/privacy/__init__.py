"""Personal data in a text: what is recognised, and the placeholders that take its place."""
