"""A holder: whatever answers checks from memory under a lease.

The parts from which servers, sidecars and the clients' cache are put together, and from which
a holder of another kind can be. `docs/holder-protocol.md` specifies what they do.

- `lease`: how long memory may be used, and what that depends on. No I/O and no clock.
- `session`: the stream to the grantor, with renewals, changes and acknowledgements.
- `dial`: connections of a holder to its grantors.
- `memory`: what a client remembers of keys, and which facts are new enough to be remembered.
"""

from keyfence.holder.lease import HolderLease
from keyfence.holder.memory import Memory
from keyfence.holder.session import (
    Clock,
    HolderSession,
    Listener,
    Refused,
    Stream,
    StreamBroken,
    Unreachable,
)

__all__ = [
    "Clock",
    "HolderLease",
    "HolderSession",
    "Listener",
    "Memory",
    "Refused",
    "Stream",
    "StreamBroken",
    "Unreachable",
]
