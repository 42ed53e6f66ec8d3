"""OpenAI-compatible endpoints: the client, its pace and limit, what an answer holds."""
