"""The stream processor: messages, topics, settings, delivery, roles, commands."""
