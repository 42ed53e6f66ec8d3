"""The HTTP service: routes, problems, keys and limits. What it needs it takes as ports (`services.py`)."""
