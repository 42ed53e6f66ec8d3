"""What flows: messages, topics, settings, and the delivery that moves them."""
