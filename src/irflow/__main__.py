"""`python -m irflow` is the command line."""

from irflow.cli.main import main

main()
