"""The built-in keyspace: Keyfence guards its own RPCs with its own keys and scopes.

Its keys are the operator credentials. It cannot be declared, applied or changed,
and its scopes share nothing with those of other keyspaces, however alike the names:
a credential's scope counts only in the keyspace that the credential belongs to.

`keyspaces:write` implies `keys:write`. A credential that declares a keyspace decides what
its scopes imply and who may register an account, so it could give itself every scope of
the keyspace in any case. The catalog says so, and a credential that does not hold
`keys:write` cannot make one that holds `keyspaces:write`.
"""

from __future__ import annotations

from typing import Final

from keyfence_server.domain.documents import declaration_from_document
from keyfence_server.domain.keyspaces import SYSTEM, Keyspace, compile_keyspace

ALL_KEYSPACES: Final = "*"
"""In `bound_keyspaces`: every keyspace but `system`, those of the future too."""

OPERATOR_ACCOUNT: Final = "operators"
"""The account of the first credential."""

_DOCUMENT: Final = {
    "keyspace": SYSTEM,
    "display_name": "Keyfence",
    "description": "The credentials of operators and of the services that ask.",
    "format": {
        "template": "kfop_{body}{checksum}",
        "body": {"alphabet": "base62", "length": 43, "shown": 6},
    },
    "scopes": {
        "keys:check": "Ask whose a key is and what it may do",
        "keys:read": "Read and list keys",
        "keys:write": {
            "description": "Make, change, rotate and revoke keys",
            "implies": "keys:read",
        },
        "keyspaces:read": "Read and list keyspaces",
        "keyspaces:write": {
            "description": "Apply keyspaces, and so decide what their keys may do",
            "implies": ["keyspaces:read", "keys:write"],
        },
        "replication:sync": {
            "description": "Answer from memory: for sidecars, and for caches in SDKs",
            "implies": "keys:check",
        },
        "replication:read": "List who answers from memory",
        "accounts:read": "Read and list accounts",
        "accounts:write": {
            "description": "Register, change, disable and log out accounts",
            "implies": "accounts:read",
        },
        "audit:read": "Read and verify the audit log",
        "audit:export": {
            "description": "Record that audit events are archived, so that they may be removed",
            "implies": "audit:read",
        },
    },
    "presets": {
        "admin": {"display_name": "Everything", "scopes": "*"},
        "checker": {"display_name": "Checks only", "scopes": "keys:check"},
        "sidecar": {"display_name": "Checks from memory", "scopes": "replication:sync"},
        "key-manager": {"display_name": "Checks, and manages keys", "scopes": "keys:*"},
        "account-manager": {
            "display_name": "Manages accounts and their keys",
            "scopes": ["accounts:*", "keys:read", "keys:write"],
        },
        "auditor": {
            "display_name": "Reads",
            "scopes": ["audit:read", "keys:read", "keyspaces:read"],
        },
    },
    "key_types": ["operator"],
}

SYSTEM_KEYSPACE: Final[Keyspace] = compile_keyspace(declaration_from_document(_DOCUMENT))
