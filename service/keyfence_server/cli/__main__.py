"""`python -m keyfence_server.cli`: the command, where its script is not on the path."""

from keyfence_server.cli import main

main()
