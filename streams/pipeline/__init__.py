"""The agents' topology and the Faust app that runs it."""
