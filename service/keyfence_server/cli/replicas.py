"""`keyfence replicas`: the holders, and how far each is behind the newest revision."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import typer

from keyfence_server.cli.connection import connect
from keyfence_server.cli.output import OutputOption, moment, note, plain, print_list, say_json

if TYPE_CHECKING:
    from keyfence.results import Replica, Replicas


def replicas(context: typer.Context, output: OutputOption = "table") -> None:
    """List the holders, which answer checks from memory: servers, sidecars, caches in clients.

    A server knows all servers on its store, but only the sidecars and caches that are
    connected to itself. Ask each server. A holder that does not acknowledge a revocation
    delays it until the holder's lease has expired. Needs the scope `replication:read`.
    """
    with connect(context) as client:
        found = client.list_replicas()
    if output == "json":
        say_json(_document(found))
        return
    if not found.items:
        note(
            "No holders: this server is alone on its database, and no sidecar or cache is "
            "connected to it."
        )
        return
    columns: Mapping[str, Callable[[Replica], str]] = {
        "HOLDER": lambda one: one.holder_id,
        "KIND": lambda one: one.kind.value,
        "NAME": lambda one: one.display_name,
        "LEASE FROM": lambda one: one.grantor_id or "the store",
        "RENEWED": lambda one: _age(one.lease_age),
        "REVISION": lambda one: str(one.applied_revision),
        "BEHIND": lambda one: str(_behind(one, found.head_revision)),
        "JOINED": lambda one: moment(one.join_time),
    }
    print_list(found.items, columns)


def _behind(one: Replica, head: int) -> int:
    return max(0, head - one.applied_revision)


def _age(age: timedelta | None) -> str:
    return "" if age is None else f"{age.total_seconds():.1f} s ago"


def _seconds(age: timedelta | None) -> float | None:
    return None if age is None else age.total_seconds()


def _document(found: Replicas) -> dict[str, object]:
    return {
        "head_revision": found.head_revision,
        "replicas": [
            {
                "holder_id": one.holder_id,
                "kind": one.kind.value,
                "display_name": one.display_name,
                "grantor_id": one.grantor_id,
                "applied_revision": one.applied_revision,
                "revisions_behind": _behind(one, found.head_revision),
                "lease_age_seconds": _seconds(one.lease_age),
                "join_time": plain(one.join_time) if one.join_time else None,
            }
            for one in found.items
        ],
    }
