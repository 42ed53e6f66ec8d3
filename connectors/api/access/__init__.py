"""Who may call the API and how often: keys, sessions, limits, and the middleware that applies them."""
