"""Real servers on a store that can be looked at, and their keys mutated by RPCs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keyfence
from crash.load import Acknowledgement
from crash.reading import Read
from support.builders import KEYSPACE
from support.served import Served

ROOT = Path(__file__).parents[2]
SETTINGS = {
    "KEYFENCE_BOOTSTRAP_KEYSPACES": str(ROOT / "examples" / "keyspaces" / "demo.yaml"),
    # A server that was killed is waited for as long as it could have answered.
    "KEYFENCE_LEASE_SECONDS": "0.1",
}


@dataclass(frozen=True)
class Place:
    """Where a server keeps its data, and how to look at them.

    Attributes:
        has_several: whether several servers can use it at the same time.
    """

    settings: dict[str, str]
    url: str
    read: Read
    has_several: bool = False


class Rpcs:
    """A server's keys, mutated by calls to it."""

    def __init__(self, client: keyfence.AsyncClient) -> None:
        self._client = client

    async def create(self, scopes: Sequence[str], request_id: str) -> Acknowledgement:
        made = await self._client.create_key(
            keyspace=KEYSPACE, account_id="acme", scopes=scopes, request_id=request_id
        )
        return _made("key.create", made.key.key_id, made, request_id)

    async def rotate(self, key_id: str, request_id: str) -> Acknowledgement:
        made = await self._client.rotate_key(key_id, request_id=request_id)
        return _made("key.rotate", key_id, made, request_id)

    async def revoke(self, key_id: str, request_id: str) -> Acknowledgement:
        revoked = await self._client.revoke_key(key_id)
        return Acknowledgement(revoked.revision, "key.revoke", key_id)


def _made(
    action: str, subject: str, made: keyfence.CreatedKey | keyfence.RotatedKey, request_id: str
) -> Acknowledgement:
    key = made.key
    return Acknowledgement(
        made.revision, action, subject, key.key_id, made.api_key, key.granted_scopes, request_id
    )


async def verify_audit_log(server: Served) -> None:
    """Fails unless the audit chain holds to its end."""
    async with keyfence.AsyncClient(server.target, token=server.root_key) as client:
        verified = await client.verify_audit_events()
    assert verified.complete
