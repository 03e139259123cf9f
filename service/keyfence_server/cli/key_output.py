"""How the command prints keys, and hands over a new one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from keyfence_server.cli.output import (
    Output,
    failing_if_lost,
    labels_text,
    moment,
    moment_in_short,
    note,
    print_fields,
    print_list,
    print_record,
    rate_text,
    say,
    say_json,
)

if TYPE_CHECKING:
    from keyfence.results import CreatedKey, Key, Principal, RotatedKey


def hand_over(made: CreatedKey | RotatedKey, *, output: Output, quiet: bool) -> None:
    """Prints a new key. If that fails, its plaintext is lost, and its maker must know."""
    key_id = made.key.key_id
    with failing_if_lost(
        f"The key {key_id} was made, but it could not be printed and is lost. Run `keyfence keys "
        f"revoke {key_id}` and make another."
    ):
        if output == "json":
            say_json(made)
            return
        say(made.api_key)
        if not quiet:
            note("This is the only time that the key is shown. Keep it safe.\n")
            print_fields({**_described(made.key), **_succeeded(made)})


def warn_if_it_holds_nothing(key: Key) -> None:
    """Says so if every check of a scope would deny the key."""
    if not key.effective_scopes:
        note(
            "Warning: this key has no scopes, so every check of a scope denies it. Grant some with "
            f"`keyfence keys update {key.key_id} --scope SCOPE`."
        )


def print_key(key: Key, output: Output) -> None:
    """Prints a key's record."""
    print_record(key, _described, output)


def scopes_text(holder: Key | Principal) -> str:
    """The effective scopes, and whether that is all of them."""
    more = ["and more"] if holder.effective_scopes_truncated else []
    return ", ".join([*holder.effective_scopes, *more])


def _described(key: Key) -> dict[str, str]:
    return {
        "key": key.key_id,
        "name": key.display_name,
        "display prefix": f"{key.display_prefix}…",
        "keyspace": key.keyspace,
        "account": key.account_id,
        "type": f"{key.key_type}, {key.environment}",
        "state": key.state.lower(),
        "granted scopes": ", ".join(key.granted_scopes) or "none",
        "effective scopes": scopes_text(key) or "none",
        "from preset": key.preset,
        "expires": moment(key.expire_time, absent="never"),
        "allowed addresses": ", ".join(key.allowed_addresses),
        "bound keyspaces": ", ".join(key.bound_keyspaces),
        "labels": labels_text(key.labels),
        "rate limit": rate_text(key.rate_limit),
        "last used": _last_used(key),
        "delegated from": key.parent_key_id,
        "replaces": key.rotated_from_key_id,
        "replaced by": key.rotated_to_key_id,
        "created": moment(key.create_time),
        "changed": moment(key.update_time) if key.update_time != key.create_time else "",
        "revoked": moment(key.revoke_time),
        "revision": str(key.revision),
    }


def _succeeded(made: CreatedKey | RotatedKey) -> dict[str, str]:
    """What a rotation means for the old key: when it ends."""
    from keyfence.results import KeyState, RotatedKey

    if not isinstance(made, RotatedKey):
        return {}
    old = made.previous_key
    end = "is revoked" if old.state is KeyState.REVOKED else f"ends {moment(old.expire_time)}"
    return {"replaces": f"{old.key_id}, which {end}"}


def _last_used(key: Key) -> str:
    """When, where and how often; nothing where that is not known or never was."""
    if key.last_used_time is None:
        return ""
    where = f" from {key.last_used_address}" if key.last_used_address else ""
    times = "once" if key.use_count == 1 else f"{key.use_count} times in all"
    return f"{moment(key.last_used_time)}{where}, {times}"


def print_keys(keys: Iterable[Key]) -> None:
    """Prints a line for each key."""
    columns: Mapping[str, Callable[[Key], str]] = {
        "KEY": lambda key: key.key_id,
        "DISPLAY PREFIX": lambda key: f"{key.display_prefix}…",
        "STATE": lambda key: key.state.lower(),
        "NAME": lambda key: key.display_name,
        "ACCOUNT": lambda key: key.account_id,
        "TYPE": lambda key: f"{key.key_type}, {key.environment}",
        "GRANTED": lambda key: ", ".join(key.granted_scopes),
        "EXPIRES (UTC)": lambda key: moment_in_short(key.expire_time, absent="never"),
        "USED (UTC)": lambda key: moment_in_short(key.last_used_time),
    }
    print_list(keys, columns, unbroken=2)
