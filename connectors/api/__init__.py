"""The HTTP service: routes, problems, keys and limits. It gets its dependencies as ports (`services.py`)."""
