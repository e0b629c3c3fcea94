"""``python -m reprise``: the command line."""

from reprise.cli.start import main

main()
