"""What a proxy decides in the agents, and what it costs: `python -m bench.routing`."""
