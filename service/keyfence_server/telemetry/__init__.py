"""Logs, metrics and traces, for operators.

The use cases and the RPCs count events in plain numbers, which is cheap. This package
reads the numbers when a client requests them. No secret may reach this package, and its
output is searched for secrets nevertheless.
"""
