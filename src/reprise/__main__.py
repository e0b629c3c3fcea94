"""``python -m reprise``: the command line."""

from reprise.cli.main import main

main()
