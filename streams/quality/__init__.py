"""Whether labels are right: estimates from people's labels, and what is decided by them."""
