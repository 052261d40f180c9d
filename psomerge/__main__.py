"""`python -m psomerge`: the command line."""

from psomerge.flows.cli import main

main()
