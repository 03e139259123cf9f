"""The asynchronous client, written by hand.

`client.py` and `listing.py` are the source of their synchronous twins, so they must
not use what has none.
"""
