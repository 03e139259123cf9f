"""What the server tells those who run it: logs, metrics, traces.

The use cases and the RPCs count what happens in plain numbers, at next to no cost;
here the numbers are read when they are asked for. Nothing here may see a secret, and
what it writes is searched for secrets all the same.
"""
