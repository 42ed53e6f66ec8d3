"""Who may ask and how much: keys, sessions, limits, and the middleware that applies them."""
