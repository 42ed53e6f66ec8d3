"""Label versions: their topic, registry, commands and scores."""
