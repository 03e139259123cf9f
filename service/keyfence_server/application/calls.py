"""What is known of a call from the moment it arrives, as plain values.

Work may outlive its call: a mutation goes on when its caller has gone. gRPC crashes when it
is asked about a call that has ended, so nothing behind the pipeline holds gRPC's own object.
A `Call` is made once, is never changed, and can be kept.
"""

from __future__ import annotations

from typing import NamedTuple


class Call(NamedTuple):
    """A call.

    Attributes:
        method: the RPC's full name, for example "/keyfence.v1.KeyService/GetKey"; empty for
            work that no RPC asked for.
        address: the network address of the caller; empty where there is none, as over a Unix
            socket, or where it is not known.
        request_id: ties the call to its lines in the log and in the audit log; None where the
            caller brought none and the call is not a mutation.
    """

    method: str = ""
    address: str = ""
    request_id: str | None = None


NO_CALL = Call()
"""Stands for work that no RPC asked for."""
