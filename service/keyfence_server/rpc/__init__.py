"""Keyfence over gRPC: convert, call a use case, convert.

Who may call what is said by the descriptors and enforced in `pipeline`; how errors
look is said in `status`. Nothing here knows SQL, the settings or other adapters.
"""
