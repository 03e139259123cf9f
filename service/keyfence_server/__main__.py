"""`python -m keyfence_server`: the command `keyfence`, where its script is not on the path."""

from keyfence_server.cli import main

main()
