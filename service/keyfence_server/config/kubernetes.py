"""The variables that Kubernetes sets in every container for each Service of the namespace.

For a Service named `keyfence-gateway` they are `KEYFENCE_GATEWAY_SERVICE_HOST`,
`KEYFENCE_GATEWAY_PORT=tcp://10.0.0.1:8080` and others. They are not settings.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(
    r"KEYFENCE_([A-Z0-9_]+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT_NAME: Final = re.compile(r"KEYFENCE_([A-Z0-9_]+_)?PORT")
_PORT_VALUE: Final = re.compile(r"(tcp|udp|sctp)://\S+")


def is_service_variable(name: str, value: str) -> bool:
    """Whether Kubernetes sets a variable of this form for a Service. The value is looked at
    only for `..._PORT`, which could also be a misspelt setting."""
    if _NAME.fullmatch(name):
        return True
    return _PORT_NAME.fullmatch(name) is not None and _PORT_VALUE.fullmatch(value) is not None
