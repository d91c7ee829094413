"""``python -m tryage`` runs the command line."""

from tryage.cli import main

main()
