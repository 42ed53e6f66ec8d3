"""One recogniser a file: each finds one kind of personal data in a text."""
