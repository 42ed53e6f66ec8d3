"""`python -m streams.cli`, as the roles are started by their supervisor."""

from streams.cli.main import main

main()
