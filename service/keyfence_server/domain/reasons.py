"""Why a check is allowed or denied."""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """The one reason behind a verdict, in order of precedence behind `OK`.

    The names are those of `keyfence.v1.Reason`, where each is documented.
    """

    OK = "OK"
    CREDENTIAL_MISSING = "CREDENTIAL_MISSING"
    CREDENTIAL_MALFORMED = "CREDENTIAL_MALFORMED"
    KEY_UNKNOWN = "KEY_UNKNOWN"
    KEYSPACE_MISMATCH = "KEYSPACE_MISMATCH"
    KEY_REVOKED = "KEY_REVOKED"
    KEY_EXPIRED = "KEY_EXPIRED"
    KEY_DISABLED = "KEY_DISABLED"
    ACCOUNT_DISABLED = "ACCOUNT_DISABLED"
    ADDRESS_NOT_ALLOWED = "ADDRESS_NOT_ALLOWED"
    SCOPE_MISSING = "SCOPE_MISSING"
    RATE_LIMITED = "RATE_LIMITED"
