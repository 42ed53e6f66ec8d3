"""From the topics to the result tables, each message once."""
