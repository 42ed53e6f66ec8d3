"""`python -m streams.cli`: how the supervisor starts the roles."""

from streams.cli.main import main

main()
