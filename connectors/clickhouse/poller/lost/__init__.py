"""What looks for the rows of messages that retention removed unread, and publishes them again."""
