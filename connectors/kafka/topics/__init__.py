"""The topics: how they are to be set up, and what differs."""
