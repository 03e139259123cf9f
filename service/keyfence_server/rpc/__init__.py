"""Keyfence over gRPC: convert, call a use case, convert.

The descriptors say who may call what, and `pipeline` enforces it. `status` says how
errors look. Nothing here knows SQL, the settings or the adapters.
"""
