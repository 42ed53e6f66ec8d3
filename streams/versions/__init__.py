"""Label versions: their topic, registry, and commands."""
