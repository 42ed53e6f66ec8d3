"""The implementations behind the HTTP routes' ports."""
