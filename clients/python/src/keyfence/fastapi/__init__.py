"""The guard for FastAPI: dependencies, and routes by which callers manage their keys.

A `Guard` is installed into an application, and every route says by a dependency what it
needs: `requires("vps:write")`, `requires()` for any good key, `account()` for a caller that
manages its account, `public()` for no credential. An application with a route that says
nothing does not start.
"""

from keyfence.fastapi._guard import Guard
from keyfence.fastapi._keys import KeyOwner

__all__ = ["Guard", "KeyOwner"]
