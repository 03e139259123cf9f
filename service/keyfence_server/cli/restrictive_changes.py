"""Lists the restrictive changes made since a backup, with commands that make them again.

When in doubt, the list restricts too much. An operator can enable a key again, but cannot
undo what was done with a key that should have been refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

from keyfence_server.cli.exits import ExitCode
from keyfence_server.cli.failures import Failure
from keyfence_server.cli.old_log import OldEvent, OldLog
from keyfence_server.cli.output import timestamp

if TYPE_CHECKING:
    from keyfence import Client
    from keyfence_server.domain.keys import Key

_PAGE: Final = 1_000
_RESTRICTIVE_FIELDS: Final = frozenset(
    {"allowed_addresses", "expire_time", "granted_scopes", "rate_limit", "state"}
)

KNOWN_ACTIONS: Final = frozenset(
    {
        "account.disable",
        "account.enable",
        "account.log_in",
        "account.log_in_denied",
        "account.log_out",
        "account.register",
        "account.update",
        "audit.export",
        "audit.remove",
        "call.denied",
        "check.denied",
        "key.create",
        "key.import",
        "key.rehash",
        "key.revoke",
        "key.rotate",
        "key.update",
        "keyspace.apply",
        "operator.recover",
    }
)

Command = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Step:
    """One change to make again.

    Attributes:
        event: the change, as the old log records it.
        commands: the arguments of `keyfence` that make it again; empty if an operator must decide.
        by_hand: what an operator must do by hand; empty if nothing.
    """

    event: OldEvent
    commands: tuple[Command, ...] = ()
    by_hand: str = ""


def events_since_backup(client: Client, old: OldLog) -> list[OldEvent]:
    """Returns the events of the old log after the last event that the restored server shares. Up to
    that event both logs are equal, since its hash covers all events before it. Raises `Failure` if
    the logs are of different stores, or one of them lacks events."""
    expected: int | None = None
    for event in client.list_audit_events(newest_first=True, page_size=_PAGE):
        if expected is None:
            end = client.verify_audit_events(
                after_sequence=event.sequence, after_hash=event.hash, max_events=1
            )
            expected = end.sequence
        if event.sequence != expected:
            raise Failure(
                "this credential does not see every event of the restored server; use one with "
                'the scope audit:read that is bound to "*" and "system", such as the first one',
                ExitCode.NOT_PERMITTED,
            )
        known = old.events.get(event.sequence)
        if known is not None and known.hash == event.hash:
            return _without_gaps(old, event.sequence)
        expected -= 1
    raise Failure(
        "no event of the restored server is in the old log: the two logs are of "
        "different stores, or the old log begins after the backup was made",
        ExitCode.CONFLICT,
    )


def _without_gaps(old: OldLog, after: int) -> list[OldEvent]:
    last = max(old.events)
    missing = [number for number in range(after + 1, last + 1) if number not in old.events]
    if missing:
        raise Failure(
            f"event {missing[0]} is missing in the old log; list the old log again without filters "
            "and with --limit 0",
            ExitCode.CONFLICT,
        )
    return [old.events[number] for number in range(after + 1, last + 1)]


def steps(events: Sequence[OldEvent], keys: Mapping[str, Key], now: datetime) -> Iterator[Step]:
    """Yields the changes to make again, in their original order. `keys` are the last known records
    of updated keys, by key id."""
    made = {event.subject for event in events if event.action in {"key.create", "operator.recover"}}
    for event in events:
        if event.action == "key.import":
            made |= set(map(str, event.details["key_ids"]))
    made |= {str(event.details["successor"]) for event in events if event.action == "key.rotate"}
    registered = {event.subject for event in events if event.action == "account.register"}
    last_update = {event.subject: event for event in events if event.action == "key.update"}
    disabled: set[str] = set()
    for event in events:
        subject, account = event.subject, event.account_id
        if account in registered and event.action != "account.register":
            continue
        match event.action:
            case "key.create":
                yield Step(event, by_hand=f"the key is unknown; give {_owner(event)} a new one")
            case "key.import":
                yield Step(event, by_hand="the imported keys are unknown; import their file again")
            case "operator.recover" if event.details.get("purpose") != "restore":
                yield Step(event, by_hand="the credential is unknown; make another one")
            case "key.rotate":
                yield Step(
                    event,
                    () if subject in made else (("keys", "revoke", subject),),
                    f"its successor is unknown; give {_owner(event)} a new key",
                )
            case "key.revoke" if subject not in made:
                yield Step(event, (("keys", "revoke", subject),))
            case "key.update" if subject not in made and last_update[subject] is event:
                fields = _fields(events, subject)
                if fields:
                    yield _update(event, fields, keys.get(subject), now)
            case "account.register":
                yield Step(event, by_hand="the account is unknown; register it again")
            case "account.disable":
                disabled.add(subject)
                disable = ("accounts", "disable", subject)
                yield Step(event, (*_keys_of_sessions(event), disable))
            case "account.enable" if subject in disabled:
                yield Step(event, (("accounts", "enable", subject),))
            case "account.log_out":
                log_out = ("accounts", "logout", "--all", account)
                yield Step(event, _keys_of_sessions(event) or (log_out,))
            case "account.update" if "password" in event.details["fields"]:
                yield Step(
                    event,
                    _keys_of_sessions(event) or (("accounts", "logout", "--all", subject),),
                    "its old password is valid again; ask its owner to choose a new one",
                )
            case "account.update":
                changed = ", ".join(event.details["fields"])
                yield Step(event, by_hand=f"change again: {changed}")
            case "keyspace.apply":
                yield Step(event, by_hand="apply the latest file again: keyfence keyspaces apply")
            case action if action not in KNOWN_ACTIONS:
                yield Step(event, by_hand="this version of keyfence does not know this action")


def _keys_of_sessions(event: OldEvent) -> tuple[Command, ...]:
    """Returns the command that ends the account's sessions and revokes the keys made in them,
    if the event revoked such keys."""
    if not event.details.get("revoked_keys"):
        return ()
    return (("accounts", "logout", "--all", "--revoke-keys", str(event.account_id)),)


def _fields(events: Sequence[OldEvent], key_id: str) -> frozenset[str]:
    """Returns the changed fields of a key that can restrict it."""
    changed: set[str] = set()
    for event in events:
        if event.action == "key.update" and event.subject == key_id:
            changed.update(event.details["fields"])
    return _RESTRICTIVE_FIELDS & changed


def _update(event: OldEvent, fields: frozenset[str], key: Key | None, now: datetime) -> Step:
    """Sets the key's last known values, or disables the key if they are unknown."""
    update = ("keys", "update", event.subject)
    if key is None:
        return Step(
            event,
            ((*update, "--disable"),),
            f"the new values are not in the log: {', '.join(sorted(fields))}; set them, then "
            "enable the key",
        )
    if key.is_expired(now):
        return Step(event, ((*update, "--disable"),), "the key has expired")
    options: list[str] = []
    if "granted_scopes" in fields:
        options += _each("--scope", key.granted_scopes) or ["--clear", "scopes"]
    if "allowed_addresses" in fields:
        options += _each("--allow-address", key.allowed_addresses) or ["--clear", "addresses"]
    if "expire_time" in fields:
        at = key.expire_time
        options += ["--expires-at", timestamp(at)] if at else ["--clear", "expiry"]
    if "rate_limit" in fields:
        limit = key.rate_limit
        options += ["--rate-limit", str(limit)] if limit else ["--clear", "rate-limit"]
    if "state" in fields:
        # A key that was revoked later has a step of its own for that.
        options.append("--enable" if key.state.value == "active" else "--disable")
    return Step(event, ((*update, *options),))


def _each(option: str, values: Sequence[str]) -> list[str]:
    return [part for value in values for part in (option, value)]


def _owner(event: OldEvent) -> str:
    return f'"{event.account_id}" in "{event.keyspace}"'
