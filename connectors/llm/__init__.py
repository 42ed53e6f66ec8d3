"""OpenAI-compatible endpoints: the client, its limit and pacing, and the parsing of answers."""
