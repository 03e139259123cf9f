"""Supascale: None, Read or Write on each of five resources."""

from __future__ import annotations

import itertools

import pytest

from support.systems import Authority

NAME = "supascale"
RESOURCES = ("backups", "cloud-storage", "projects", "system", "tasks")
SCOPES = tuple(f"{resource}:{level}" for resource in RESOURCES for level in ("read", "write"))


@pytest.mark.parametrize("resource", RESOURCES)
async def test_write_includes_read_and_read_does_not_include_write(
    authority: Authority, resource: str
) -> None:
    await authority.apply(NAME)
    read, write = f"{resource}:read", f"{resource}:write"
    for granted, held in (([], ()), ([read], (read,)), ([write], (read, write))):
        made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=granted)
        await authority.require_exactly(made.api_key, NAME, held, of=SCOPES)


@pytest.mark.parametrize(
    ("granted", "held"),
    [
        pytest.param(
            ("projects:write", "backups:read"),
            ("backups:read", "projects:read", "projects:write"),
            id="CI/CD Pipeline",
        ),
        pytest.param(
            ("backups:write", "cloud-storage:read"),
            ("backups:read", "backups:write", "cloud-storage:read"),
            id="Backup Script",
        ),
        pytest.param(
            ("projects:read", "system:read"),
            ("projects:read", "system:read"),
            id="Monitoring Integration",
        ),
    ],
)
async def test_the_use_cases_of_the_page_get_what_they_name_and_no_more(
    authority: Authority, granted: tuple[str, ...], held: tuple[str, ...]
) -> None:
    await authority.apply(NAME)
    made = await authority.operator.create_key(keyspace=NAME, account_id="a", scopes=granted)
    assert made.key.effective_scopes == held
    await authority.require_exactly(made.api_key, NAME, held, of=SCOPES)


async def test_levels_of_different_resources_are_independent(authority: Authority) -> None:
    await authority.apply(NAME)
    for first, second in itertools.pairwise(RESOURCES):
        made = await authority.operator.create_key(
            keyspace=NAME, account_id="a", scopes=[f"{first}:write", f"{second}:read"]
        )
        held = (f"{first}:read", f"{first}:write", f"{second}:read")
        await authority.require_exactly(made.api_key, NAME, held, of=SCOPES)


async def test_a_key_works_at_once(authority: Authority) -> None:
    """ "The key is active immediately - no delay", also where it was asked for before."""
    await authority.apply(NAME)
    for _ in range(3):
        made = await authority.operator.create_key(
            keyspace=NAME, account_id="a", scopes=["tasks:read"]
        )
        assert await authority.operator.check_scope(made.api_key, "tasks:read", keyspace=NAME)
