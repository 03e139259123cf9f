"""How far a credential reaches: bindings, accounts, and the built-in keyspace."""

from __future__ import annotations

from dataclasses import replace

import pytest

from application.authority import OTHER, Authority, refused
from keyfence_server.application.calls import Call
from keyfence_server.application.pages import PageRequest
from keyfence_server.application.ports import Change, ChangeKind
from keyfence_server.application.read_keys import Listing
from keyfence_server.domain.decisions import Question
from keyfence_server.domain.errors import InvalidInput
from keyfence_server.domain.keys import KeyState
from keyfence_server.domain.reasons import Reason

ROOT_LIKE = "kfop_" + "0" * 49


async def test_a_bound_operator_learns_nothing_of_other_keyspaces(authority: Authority) -> None:
    """Threat 10: an empty keyspace in the question must not skip the binding. If it did, the
    answer would be the key's true state, or would differ from that for an unknown key."""
    bound = await authority.operator("acme")
    foreign = await authority.make(keyspace="other", scopes=["vps:read"])
    other = await authority.read_keyspaces.get(authority.root, "other")
    never_made = other.forms["secret", "live"].mint()
    for state in (KeyState.ACTIVE, KeyState.DISABLED):
        await authority.update(None, foreign.facts.key_id, state=state)
        for text in (foreign.plaintext, never_made):
            for verdict in (
                await authority.check(text, by=bound),
                await authority.check(text, "vps:read", by=bound),
                await authority.check(text, "no:such:scope", by=bound),
                await authority.check(text, "vps:read", by=bound, keyspace="acme"),
            ):
                assert verdict.reason is Reason.CREDENTIAL_MALFORMED
                assert (verdict.facts, verdict.missing_scopes) == (None, ())
    for name in ("other", "nowhere", "system"):
        with refused("KEYSPACE_NOT_BOUND", keyspace=name):
            await authority.check(foreign, by=bound, keyspace=name)


async def test_a_bound_operator_manages_nothing_elsewhere(authority: Authority) -> None:
    bound = await authority.operator("acme")
    foreign = (await authority.make(keyspace="other")).facts.key_id
    for key_id in (foreign, authority.root.credential_id, "key_no"):
        with refused("KEY_NOT_FOUND"):
            await authority.read_keys.get(bound, key_id)
        with refused("KEY_NOT_FOUND"):
            await authority.update(bound, key_id, display_name="x")
        with refused("KEY_NOT_FOUND"):
            await authority.rotate(bound, key_id)
        with refused("KEY_NOT_FOUND"):
            await authority.revoke(bound, key_id)
    for name in ("other", "nowhere", "system"):
        with refused("KEYSPACE_NOT_BOUND"):
            await authority.make(by=bound, keyspace=name)
        with refused("KEYSPACE_NOT_BOUND"):
            await authority.read_keys.list(bound, Listing(keyspace=name))
        with refused("KEYSPACE_NOT_BOUND"):
            await authority.read_keyspaces.get(bound, name)
        with refused("KEYSPACE_NOT_BOUND"):
            await authority.read_keyspaces.explain_scope(bound, name, "vps:read")
    with refused("KEYSPACE_NOT_BOUND"):
        await authority.apply_keyspace.apply(bound, OTHER)
    with refused("KEYSPACE_NOT_BOUND"):
        await authority.apply_keyspace.apply(bound, OTHER, validate_only=True)
    page = await authority.read_keyspaces.list(bound, PageRequest())
    assert [one.name for one in page.items] == ["acme"]


async def test_everything_does_not_mean_keyfence_itself(authority: Authority) -> None:
    """Threat 14: "*" must not let a tenants' operator make operators."""
    operator = await authority.operator("*")
    assert operator.reaches("acme")
    assert operator.reaches("of the future")
    assert not operator.reaches("system")
    with refused("KEYSPACE_NOT_BOUND", keyspace="system"):
        await authority.make(by=operator, keyspace="system", bound_keyspaces=["*"])
    with refused("KEY_NOT_FOUND"):
        await authority.revoke(operator, authority.root.credential_id)


async def test_an_operator_binds_others_only_to_what_it_is_bound_to(authority: Authority) -> None:
    tenant = await authority.operator("acme", "system")
    for beyond in (["other"], ["*"], ["acme", "other"]):
        with refused("EXCEEDS_MAKER", exceeds="bound_keyspaces"):
            await authority.make(
                by=tenant,
                keyspace="system",
                scopes=["keys:check"],
                bound_keyspaces=beyond,
                account_id="ops",
            )
    narrow = await authority.operator("*", "system", scopes=["keys:*"])
    with refused("EXCEEDS_MAKER", exceeds="scopes"):
        await authority.make(by=narrow, keyspace="system", preset="admin", bound_keyspaces=["acme"])


async def test_a_binding_to_what_is_not_there_is_refused_with_the_nearest_name(
    authority: Authority,
) -> None:
    """The credential would have no effect, without an error that says why."""
    for name, hint in (("acmee", 'did you mean "acme"'), ("xyz", "apply it first")):
        with pytest.raises(InvalidInput, match=hint):
            await authority.operator("acme", name, scopes=["keys:check"])
    tenant = await authority.operator("othr", "system")
    with pytest.raises(InvalidInput) as caught:
        await authority.make(
            by=tenant,
            keyspace="system",
            scopes=["keys:check"],
            bound_keyspaces=["othr"],
            account_id="ops",
        )
    assert "other" not in str(caught.value)


async def test_an_operator_can_be_bound_to_a_keyspace_before_it_is_applied(
    authority: Authority,
) -> None:
    first = await authority.operator("new", scopes=["keyspaces:write"])
    await authority.apply_keyspace.apply(first, replace(OTHER, name="new"))


async def test_a_users_scope_named_like_an_operators_is_not_one(authority: Authority) -> None:
    """Threat 14: the scope "keys:write" of a product's own catalog says nothing to Keyfence."""
    made = await authority.make(keyspace="other", scopes=["keys:write"])
    assert (await authority.check(made, "keys:write")).reason is Reason.OK
    caller = await authority.acting(made)
    for scope in ("keys:write", "keys:read", "keys:check", "keyspaces:write"):
        with refused("SCOPE_REQUIRED", required_scope=scope):
            caller.require_scope(scope)
    with refused("SCOPE_REQUIRED"):
        await authority.apply_keyspace.apply(caller, OTHER)


async def test_operator_credentials_are_checked_only_by_callers_bound_to_system(
    authority: Authority,
) -> None:
    made = await authority.make(
        keyspace="system", scopes=["keys:check"], bound_keyspaces=["acme"], account_id="ops"
    )
    checker = await authority.acting(made)
    assert (await authority.check(made, "keys:check")).reason is Reason.OK
    assert (await authority.check(made, by=checker)).reason is Reason.CREDENTIAL_MALFORMED
    with refused("SCOPE_REQUIRED", required_scope="keys:write"):
        await authority.make(by=checker)
    with refused("SCOPE_REQUIRED", required_scope="keys:read"):
        await authority.read_keys.list(checker, Listing(keyspace="acme"))


@pytest.mark.parametrize("owner", ["bob", "Anna", "anna ", "ann", "annaa"])
async def test_another_accounts_key_is_not_to_be_found(authority: Authority, owner: str) -> None:
    """Threats 9, 12: neither told apart from a key that is not there, nor found by a name
    that some collation takes for the same."""
    if owner == "anna ":
        with refused("INVALID_FIELD", "account_id"):
            await authority.make(account_id=owner)
        return
    anna = await authority.acting(await authority.make(scopes=["*"]))
    foreign = await authority.make(account_id=owner, scopes=["vps:read"])
    for key_id in (foreign.facts.key_id, foreign.facts.key_id.upper(), "key_no", "", "\x00"):
        with refused("KEY_NOT_FOUND"):
            await authority.read_keys.get(anna, key_id)
        with refused("KEY_NOT_FOUND"):
            await authority.update(anna, key_id, display_name="x")
        with refused("KEY_NOT_FOUND"):
            await authority.rotate(anna, key_id)
        with refused("KEY_NOT_FOUND"):
            await authority.revoke(anna, key_id)
    listed = await authority.read_keys.list(anna, Listing())
    assert [one.key.account_id for one in listed.items] == ["anna"]
    with refused("INVALID_FIELD", "account_id"):
        await authority.read_keys.list(anna, Listing(account_id=owner))


async def test_the_same_account_in_another_keyspace_is_another_account(
    authority: Authority,
) -> None:
    anna = await authority.acting(await authority.make(scopes=["*"]))
    elsewhere = await authority.make(keyspace="other", scopes=["vps:read"])
    with refused("KEY_NOT_FOUND"):
        await authority.revoke(anna, elsewhere.facts.key_id)
    with refused("KEYSPACE_NOT_BOUND"):
        await authority.read_keys.list(anna, Listing(keyspace="other"))


async def test_a_credential_is_needed_and_its_fault_is_for_the_log_alone(
    authority: Authority,
) -> None:
    with refused("CREDENTIAL_REQUIRED"):
        await authority.callers.identify("")
    revoked = await authority.make()
    await authority.revoke(None, revoked.facts.key_id)
    for text in ("nonsense", ROOT_LIKE, revoked.plaintext.reveal()):
        with refused("CREDENTIAL_REJECTED"):
            await authority.callers.identify(text)


@pytest.mark.parametrize(
    ("peer", "passes"),
    [("10.0.0.1", True), ("::ffff:10.0.0.1", True), ("11.0.0.1", False), ("", False), ("x", False)],
)
async def test_a_credential_with_an_allow_list_is_good_from_there_alone(
    authority: Authority, peer: str, *, passes: bool
) -> None:
    made = await authority.make(scopes=["*"], allowed_addresses=["10.0.0.0/8"])
    text = made.plaintext.reveal()
    if not passes:
        with refused("CREDENTIAL_REJECTED"):
            await authority.callers.identify(text, Call(address=peer))
        return
    caller = await authority.callers.identify(text, Call(address=peer))
    assert (await authority.make(by=caller)).facts.key.allowed_addresses == ("10.0.0.0/8",)


async def test_the_keyspace_of_a_question_is_held_against_the_key(authority: Authority) -> None:
    made = await authority.make(scopes=["*"])
    verdict = await authority.checks.answer(
        authority.root, Question(made.plaintext.reveal(), keyspace="other")
    )
    assert (verdict.reason, verdict.facts) == (Reason.KEYSPACE_MISMATCH, None)
    with refused("KEYSPACE_NOT_FOUND", keyspace="nowhere"):
        await authority.check(made, keyspace="nowhere")


async def test_a_caller_is_concerned_by_changes_of_its_own_credential_alone(
    authority: Authority,
) -> None:
    """A holder of leases is cut off by them. By those of a keyspace that is called like the
    credential's account, it would be cut off again and again."""
    caller = authority.root
    account_id = caller.facts.key.account_id
    concerned = {
        (kind, subject)
        for kind in ChangeKind
        for subject in (caller.credential_id, account_id, "key_another")
        if caller.is_concerned_by(Change(kind, subject, "system"))
    }
    assert concerned == {(ChangeKind.KEY, caller.credential_id), (ChangeKind.ACCOUNT, account_id)}
