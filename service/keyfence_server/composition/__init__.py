"""The one place where the parts of a process are put together.

`server` starts a process on a `Backend`. `authority` makes the backend of a server on its
store, `sidecar` that of a process that follows servers upstream. Every other module is
given what it needs.
"""
