"""The pages' own names and words, as a panel can show them: they are what `GetKeyspace` tells.

What the names do is tested elsewhere. Here it is that none is missing, made up or described
otherwise than on the page.
"""

from __future__ import annotations

from typing import Final

import pytest

import keyfence
from keyfence.v1.http_answers_pb2 import HttpCredentials
from keyfence.v1.keyspace_pb2 import Keyspace
from support.systems import SYSTEMS, Authority

PRODUCTS: Final = {
    "quicksrv": "quicksrv",
    "sitequest": "Sitequest",
    "quantumsafe": "QuantumSafe",
    "supascale": "Supascale",
    "xquik": "Xquik",
}

SCOPES: Final = {
    "quicksrv": {
        "vps:read": "List and inspect instances, status, metrics, plans, snapshots, etc.",
        "vps:write": "Lifecycle and management actions (start/stop/reinstall/resize/rDNS/…)",
        "vps:create": "Deploy new instances (charges your wallet)",
    },
    "sitequest": {
        "vps:read": "List servers, view status and metrics",
        "vps:write": "Start, stop, reboot, reinstall, mount ISO, SSH execution",
        "vps:manage": "Create, upgrade, and delete servers",
        "domains:read": "List domains and view DNS records",
        "domains:write": "Edit DNS records and domain settings",
        "domains:manage": "Register, transfer, and delete domains",
    },
}

RESOURCES: Final = {
    "supascale": {
        "Projects": {
            "read": "View projects, status, logs",
            "write": "Create, update, delete projects",
        },
        "Backups": {"read": "List backups", "write": "Create, restore, delete backups"},
        "Tasks": {"read": "View scheduled tasks", "write": "Create, update, delete tasks"},
        "Cloud Storage": {
            "read": "List storage configs",
            "write": "Add, update, remove storage",
        },
        "System": {"read": "View system info", "write": "Update settings, manage users"},
    },
}

PRESETS: Final = {"sitequest": {"Full access", "Read only"}}

# The pages of the others name one kind of key and at most one environment.
KEY_TYPES: Final = {"quantumsafe": {"publishable", "secret"}}
ENVIRONMENTS: Final = {"quantumsafe": {"test", "live"}}

CREDENTIALS: Final = {
    "quicksrv": HttpCredentials(bearer=True, headers=["X-API-Key"]),
    "sitequest": HttpCredentials(bearer=True),
    "quantumsafe": HttpCredentials(bearer=True),
    "supascale": HttpCredentials(bearer=True),
    "xquik": HttpCredentials(bearer=True, headers=["x-api-key"], cookie="session_token"),
}

pytestmark = pytest.mark.parametrize("name", SYSTEMS)


async def shown(authority: Authority, name: str) -> Keyspace:
    await authority.apply(name)
    return (await authority.operator.get_keyspace(name)).declaration


async def test_the_product_has_its_name(name: str, authority: Authority) -> None:
    assert (await shown(authority, name)).display_name == PRODUCTS[name]


async def test_scopes_and_levels_are_those_of_the_page_in_its_words(
    name: str, authority: Authority
) -> None:
    keyspace = await shown(authority, name)
    scopes = {one.name: one.description for one in keyspace.scopes}
    resources = {
        one.display_name: {level.name: level.description for level in one.levels}
        for one in keyspace.resources
    }
    assert scopes == SCOPES.get(name, {})
    assert resources == RESOURCES.get(name, {})


async def test_people_choose_from_what_the_page_offers(name: str, authority: Authority) -> None:
    keyspace = await shown(authority, name)
    assert {one.display_name for one in keyspace.presets} == PRESETS.get(name, set())
    assert {one.name for one in keyspace.key_types} == KEY_TYPES.get(name, {"secret"})
    assert {one.name for one in keyspace.environments} == ENVIRONMENTS.get(name, {"live"})


async def test_keys_are_presented_where_the_page_says_and_nowhere_else(
    name: str, authority: Authority
) -> None:
    assert (await shown(authority, name)).http.credentials == CREDENTIALS[name]


async def test_no_account_is_registered_where_the_page_does_not_allow_it(
    name: str, authority: Authority
) -> None:
    """QuantumSafe's page alone has "Authentication: None required"."""
    await authority.apply(name)
    async with authority.client() as anybody:
        registering = anybody.register_account(name, "dev@example.com", "securepassword123")
        if name == "quantumsafe":
            assert (await registering).account.email == "dev@example.com"
        else:
            with pytest.raises(keyfence.CallFailed) as caught:
                await registering
            # Without a section `accounts`, there is nothing to register with.
            expected = "REGISTRATION_CLOSED" if name == "xquik" else "KEYSPACE_NOT_FOUND"
            assert caught.value.reason == expected


async def test_keys_are_limited_where_the_page_says_so(name: str, authority: Authority) -> None:
    """Sitequest's page alone has "60 requests per minute per API key"."""
    await authority.apply(name)
    made = await authority.operator.create_key(keyspace=name, account_id="a")
    answer = await authority.operator.authenticate(made.api_key, keyspace=name)
    limit = answer.rate_limit
    shown_limit = (limit.limit, limit.window.total_seconds()) if limit else None
    assert shown_limit == ((60, 60) if name == "sitequest" else None)
