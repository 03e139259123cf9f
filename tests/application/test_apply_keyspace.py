"""Declaring keyspaces: what differs, who gains and loses, and what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from application.authority import ACME, Authority, refused
from keyfence_server.application import affected_keys, apply_keyspace
from keyfence_server.application.apply_keyspace import KeyspaceDiff
from keyfence_server.domain.declarations import (
    BodyDeclaration,
    FormatDeclaration,
    KeyDefaults,
    KeyspaceDeclaration,
    PresetDeclaration,
    ScopeDeclaration,
)
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason
from support.clock import START

DAY = timedelta(days=1)
ONE_LESS = tuple(one for one in ACME.scopes if one.name != "dns:read")
CUT = (
    ScopeDeclaration(name="vps:read"),
    ScopeDeclaration(name="vps:write"),
    ScopeDeclaration(name="vps:create", implies=("vps:write",)),
    ScopeDeclaration(name="dns:write"),
)
FEWER_PRESETS: Any = (PresetDeclaration(name="full", scopes=("*",)),)


def ways_to_apply(authority: Authority) -> tuple[Callable[..., Awaitable[Any]], ...]:
    """To work out what a declaration would change, and to apply it."""
    apply = authority.apply_keyspace.apply
    return partial(apply, validate_only=True), apply


async def diff_of(authority: Authority, **fields: Any) -> KeyspaceDiff:
    """What applying would change, after making sure that asking changes nothing."""
    before = await authority.revision()
    declaration = replace(ACME, **fields)
    preview = await authority.apply_keyspace.apply(authority.root, declaration, validate_only=True)
    assert await authority.revision() == preview.revision == before
    done = await authority.apply_keyspace.apply(authority.root, declaration)
    assert done.value.diff == preview.value.diff
    assert done.value.keyspace.declaration == declaration
    return done.value.diff


async def test_applying_the_same_again_changes_nothing(authority: Authority) -> None:
    before = await authority.revision()
    done = await authority.apply_keyspace.apply(authority.root, ACME)
    assert done.value.diff.is_empty
    assert done.revision == before == await authority.revision()


async def test_a_new_keyspace_is_all_new(authority: Authority) -> None:
    declaration = replace(ACME, name="fresh")
    preview = (
        await authority.apply_keyspace.apply(authority.root, declaration, validate_only=True)
    ).value
    assert preview.diff.created
    with refused("KEYSPACE_NOT_FOUND"):
        await authority.read_keyspaces.get(authority.root, "fresh")
    done = (await authority.apply_keyspace.apply(authority.root, declaration)).value
    assert done.diff == preview.diff
    assert set(done.diff.added_scopes) == set(done.keyspace.catalog.names)
    stored = await authority.read_keyspaces.get(authority.root, "fresh")
    assert stored == done.keyspace
    assert (stored.create_time, stored.revision) == (START, await authority.revision())


async def test_the_diff_names_what_each_key_gains_and_loses(authority: Authority) -> None:
    everything = await authority.make(scopes=["*"])
    create = await authority.make(scopes=["vps:create"])
    wildcard = await authority.make(scopes=["vps:*"])
    untouched = await authority.make(scopes=["projects:write"])
    gone = await authority.make(scopes=["*"])
    expired = await authority.make(scopes=["*"], expire_time=START + DAY)
    disabled = await authority.make(scopes=["dns:read"])
    child_of_gone = await authority.make(scopes=["*"], parent_key_id=gone.facts.key_id)
    await authority.revoke(None, gone.facts.key_id)
    await authority.update(None, disabled.facts.key_id, state=KeyState.DISABLED)
    authority.clock.advance(DAY)
    diff = await diff_of(authority, scopes=CUT, presets=FEWER_PRESETS)
    assert diff.added_scopes == ("dns:write",)
    assert diff.removed_scopes == ("dns:read",)
    assert diff.changed_scopes == ("vps:write",)
    assert diff.changed_fields == ("presets", "scopes")
    changes = {one.key.key_id: (one.gained_scopes, one.lost_scopes) for one in diff.affected_keys}
    assert changes == {
        everything.facts.key_id: (("dns:write",), ("dns:read",)),
        create.facts.key_id: ((), ("vps:read",)),
        disabled.facts.key_id: ((), ("dns:read",)),
    }
    assert wildcard.facts.key_id not in changes
    assert untouched.facts.key_id not in changes
    assert expired.facts.key_id not in changes
    assert child_of_gone.facts.key_id not in changes
    assert (await authority.check(create, "vps:read")).reason is Reason.SCOPE_MISSING
    assert (await authority.check(everything, "dns:write")).reason is Reason.OK


async def test_the_diff_counts_what_a_cap_takes(authority: Authority) -> None:
    public = await authority.make(scopes=["*"], key_type="publishable")
    secret, publishable = ACME.key_types
    kinds = (secret, replace(publishable, scope_cap=("dns:read",)))
    diff = await diff_of(authority, key_types=kinds)
    assert (diff.added_scopes, diff.changed_fields) == ((), ("key_types",))
    ((change),) = diff.affected_keys
    assert change.key.key_id == public.facts.key_id
    assert (change.gained_scopes, change.lost_scopes) == (("dns:read",), ("vps:read",))
    assert diff.affected_key_count == 1


async def test_what_decides_no_scopes_affects_no_keys(authority: Authority) -> None:
    await authority.make(scopes=["*"])
    diff = await diff_of(authority, description="new", defaults=KeyDefaults(display_name="x"))
    assert diff.changed_fields == ("defaults", "description")
    assert diff.affected_key_count == 0


async def test_a_declaration_for_a_revision_that_is_gone_is_refused(authority: Authority) -> None:
    revision = (await authority.read_keyspaces.get(authority.root, "acme")).revision
    apply = authority.apply_keyspace.apply
    await apply(authority.root, replace(ACME, description="1"), if_revision=revision)
    with refused("REVISION_CHANGED"):
        await apply(authority.root, replace(ACME, description="2"), if_revision=revision)
    with refused("REVISION_CHANGED", revision="0"):
        await apply(authority.root, replace(ACME, name="new"), if_revision=1)


async def test_a_declaration_whose_answer_was_lost_can_be_applied_again(
    authority: Authority,
) -> None:
    """For the revision that it was made for, which its own first application has changed."""
    revision = (await authority.read_keyspaces.get(authority.root, "acme")).revision
    wanted = replace(ACME, description="1")
    use_case = authority.apply_keyspace
    first = await use_case.apply(authority.root, wanted, if_revision=revision)
    for again in ways_to_apply(authority):
        done = await again(authority.root, wanted, if_revision=revision)
        assert done.value.diff.is_empty
        assert done.revision == first.revision == done.value.keyspace.revision


@pytest.mark.parametrize(
    ("field", "metadata"),
    [("key_types", {"key_type": "publishable"}), ("environments", {"environment": "test"})],
)
async def test_what_keys_still_have_is_not_taken_away(
    authority: Authority, field: str, metadata: dict[str, Any]
) -> None:
    """Their keys would otherwise hold nothing all at once, or could not be rotated."""
    made = await authority.make(**metadata)
    without: Any = {field: getattr(ACME, field)[:1]}
    for attempt in ways_to_apply(authority):
        with refused("STILL_IN_USE", keys="1", **metadata):
            await attempt(authority.root, replace(ACME, **without))
    await authority.revoke(None, made.facts.key_id)
    await authority.declare(ACME, **without)
    # What looked like a key of that kind is still told from noise.
    assert (await authority.check(made)).reason is Reason.KEY_REVOKED


async def test_a_scope_that_comes_back_is_held_again(authority: Authority) -> None:
    made = await authority.make(scopes=["dns:read"])
    await authority.declare(ACME, scopes=ONE_LESS, presets=FEWER_PRESETS)
    with refused("UNKNOWN_SCOPE"):
        await authority.check(made, "dns:read")
    assert (await authority.check(made, "vps:read")).reason is Reason.SCOPE_MISSING
    await authority.declare(ACME)
    assert (await authority.check(made, "dns:read")).reason is Reason.OK


async def test_a_grant_that_is_dormant_is_not_rotated_into_lesser_hands(
    authority: Authority,
) -> None:
    """Threat 13: the lesser key would hold the scope as soon as it is registered again."""
    old = await authority.make(scopes=["dns:read", "vps:read"])
    small = await authority.acting(await authority.make(scopes=["vps:*"]))
    await authority.declare(ACME, scopes=ONE_LESS, presets=FEWER_PRESETS)
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.rotate(small, old.facts.key_id)


async def test_a_declaration_that_makes_no_sense_changes_nothing(authority: Authority) -> None:
    before = await authority.revision()
    for attempt in ways_to_apply(authority):
        with refused("INVALID_KEYSPACE", "max_lifetime"):
            await attempt(authority.root, replace(ACME, max_lifetime=timedelta(milliseconds=500)))
    assert await authority.revision() == before


async def test_a_declaration_of_nothing_but_the_name_takes_nothing_away(
    authority: Authority,
) -> None:
    """It is what is left of a declaration that was lost on its way."""
    bare = KeyspaceDeclaration(name=ACME.name)
    for act in ways_to_apply(authority):
        with refused("INVALID_KEYSPACE"):
            await act(authority.root, bare)
    assert (await authority.read_keyspaces.get(authority.root, ACME.name)).declaration == ACME

    new = replace(bare, name="fresh")
    for _ in range(2):
        assert (await authority.apply_keyspace.apply(authority.root, new)).value.keyspace


async def test_a_dry_run_needs_the_right_to_apply(authority: Authority) -> None:
    reader = await authority.operator("acme", scopes=["keyspaces:read"])
    for attempt in ways_to_apply(authority):
        with refused("SCOPE_REQUIRED", required_scope="keyspaces:write"):
            await attempt(reader, ACME)


async def test_a_scope_is_explained_with_its_ways_its_presets_and_its_holders(
    authority: Authority,
) -> None:
    for scopes, fields in (
        (["vps:create"], {}),
        (["*"], {"allowed_addresses": ["10.0.0.0/8"]}),
        (["*"], {"key_type": "publishable"}),
        (["vps:read"], {}),
        (["vps:write"], {"expire_time": START + DAY}),
    ):
        await authority.make(scopes=scopes, **fields)
    gone = await authority.make(scopes=["vps:write"])
    await authority.revoke(None, gone.facts.key_id)
    authority.clock.advance(DAY)
    report = await authority.read_keyspaces.explain_scope(authority.root, "acme", "vps:write")
    assert [path.path for path in report.implies] == [("vps:write", "vps:read")]
    assert [path.path for path in report.implied_by] == [("vps:create", "vps:write")]
    assert report.presets == ("full",)
    assert report.capped_key_types == ("publishable",)
    assert report.active_key_count == 2
    with refused("UNKNOWN_SCOPE", nearest="vps:write"):
        await authority.read_keyspaces.explain_scope(authority.root, "acme", "vps:wriet")


async def test_the_built_in_keyspace_can_be_read_by_callers_bound_to_it(
    authority: Authority,
) -> None:
    system = await authority.read_keyspaces.get(authority.root, "system")
    assert isinstance(system.declaration, KeyspaceDeclaration)
    report = await authority.read_keyspaces.explain_scope(authority.root, "system", "keys:write")
    assert report.active_key_count == 1


NEW_FORMAT = FormatDeclaration(template="new_{body}", body=BodyDeclaration(length=24))


async def test_dropping_earlier_formats_names_the_keys_that_stop_working(
    authority: Authority,
) -> None:
    old = await authority.make(scopes=["vps:read"])
    revoked = await authority.make(scopes=["vps:read"])
    await authority.revoke(None, revoked.facts.key_id)
    await authority.declare(ACME, format=NEW_FORMAT)
    new = await authority.make(scopes=["vps:read"])
    declaration = replace(ACME, format=NEW_FORMAT)
    preview = await authority.apply_keyspace.apply(
        authority.root, declaration, drop_formats=["*"], validate_only=True
    )
    assert (await authority.check(old, "vps:read")).reason is Reason.OK
    done = await authority.apply_keyspace.apply(authority.root, declaration, drop_formats=["*"])
    assert done.value.diff == preview.value.diff
    assert not done.value.diff.changed_fields
    assert "ac_sec_live_{body}{checksum}" in done.value.diff.dropped_formats
    assert [key.key_id for key in done.value.diff.cut_off_keys] == [old.facts.key_id]
    assert done.value.diff.cut_off_key_count == 1
    assert done.value.keyspace.previous_formats == ()
    authority.cache.clear()
    assert (await authority.check(old, "vps:read")).reason is Reason.CREDENTIAL_MALFORMED
    assert (await authority.check(new, "vps:read")).reason is Reason.OK
    again = await authority.apply_keyspace.apply(authority.root, declaration, drop_formats=["*"])
    assert again.value.diff.is_empty
    assert again.revision == done.revision


async def test_only_the_named_format_is_dropped(authority: Authority) -> None:
    await authority.declare(ACME, format=NEW_FORMAT)
    declaration = replace(ACME, format=replace(NEW_FORMAT, template="newer_{body}"))
    done = await authority.apply_keyspace.apply(
        authority.root, declaration, drop_formats=["new_{body}"]
    )
    assert done.value.diff.dropped_formats == ("new_{body}",)
    left = {form.template for form in done.value.keyspace.previous_formats}
    assert "ac_sec_live_{body}{checksum}" in left
    assert "new_{body}" not in left


async def test_keys_are_examined_in_slices_and_each_is_counted_once(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With slices of two keys and readings of one, keys stand on every border."""
    monkeypatch.setattr(apply_keyspace, "_SLICE", 2)
    monkeypatch.setattr(apply_keyspace, "_BATCH", 1)
    monkeypatch.setattr(affected_keys, "MAX_AFFECTED_KEYS", 5)
    parent = await authority.make(scopes=["*"])
    lost: dict[str, tuple[str, ...]] = {parent.facts.key_id: ("dns:read",)}
    for number in range(9):
        scopes = [["dns:read"], ["projects:write"], ["vps:read"]][number % 3]
        above = parent.facts.key_id if number % 2 else ""
        made = await authority.make(scopes=scopes, parent_key_id=above)
        if scopes == ["dns:read"]:
            lost[made.facts.key_id] = ("dns:read",)
    other_type = await authority.make(scopes=["*"], key_type="publishable")
    diff = await diff_of(authority, scopes=CUT, presets=FEWER_PRESETS)
    found = {one.key.key_id: one.lost_scopes for one in diff.affected_keys}
    assert found == lost
    assert other_type.facts.key_id not in found
    assert (diff.affected_key_count, diff.is_cut) == (len(lost), False)
    more = [await authority.make(scopes=["dns:write"]) for _ in range(7)]
    diff = await diff_of(authority, scopes=ACME.scopes)
    assert diff.affected_key_count == len(more) + len(lost), "those gain again what they lost"
    assert (len(diff.affected_keys), diff.is_cut) == (5, True)
