"""What the server keeps in files of its own: its lock, its pepper, its first credential.

It must not know gRPC, SQL or the settings.
"""
