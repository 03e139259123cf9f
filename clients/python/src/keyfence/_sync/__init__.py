"""The synchronous client. `client.py` and `listing.py` are generated from `_async`."""
