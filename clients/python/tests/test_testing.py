"""The fake server behaves as a server does, and the helper starts a real one."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from keyfence import (
    AsyncClient,
    Batching,
    Cache,
    Client,
    ConfigurationError,
    DeadlineExceeded,
    KeyState,
    NotFound,
    Reason,
    RequestAlreadyDone,
    RevisionChanged,
    Unauthenticated,
    Unavailable,
    Unimplemented,
    UnknownScope,
)
from keyfence.testing import Failure, FakeServer, ServerProcess, keyspace
from keyfence.v1 import keyspace_pb2

PATIENCE_SECONDS = 20.0


@pytest.fixture
def fake() -> Any:
    declared = keyspace("demo", "vps:read")
    declared.scopes.add(name="vps:write", implies=["vps:read"])
    declared.resources.add(
        name="project",
        levels=[keyspace_pb2.Level(name="read"), keyspace_pb2.Level(name="write")],
    )
    with FakeServer(declared, keyspace("other", "a:b")) as server:
        yield server


def wait_until_live(client: Client, key: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        client.check_scope(key, "vps:read")
        status = client.cache_status()
        if status is not None and status.is_live and status.hits:
            return
        time.sleep(0.01)
    raise AssertionError("the cache does not answer")


def test_a_key_holds_what_it_was_given_and_what_that_implies(fake: FakeServer) -> None:
    client = fake.client()
    key = fake.create_key("demo", "vps:write", "project:write").api_key
    assert client.check_scope(key, "vps:read", "vps:write", "project:read", keyspace="demo")
    every = fake.create_key("demo", "*")
    assert every.key.effective_scopes == ("project:read", "project:write", "vps:read", "vps:write")
    refused = client.check_scope(fake.create_key("demo", "vps:read").api_key, "vps:write")
    assert refused.reason is Reason.SCOPE_MISSING
    assert refused.missing_scopes == ("vps:write",)
    assert client.authenticate("kf_live_nothing").reason is Reason.KEY_UNKNOWN
    assert client.authenticate(key, keyspace="other").reason is Reason.KEYSPACE_MISMATCH


def test_a_scope_that_is_not_registered_is_neither_granted_nor_checked(fake: FakeServer) -> None:
    with pytest.raises(UnknownScope) as caught:
        fake.create_key("demo", "vps:raed")
    assert caught.value.nearest == "vps:read"
    with pytest.raises(UnknownScope):
        fake.client().check_scope(fake.create_key("demo", "*").api_key, "vps:raed")


def test_a_key_lives_by_its_record(fake: FakeServer) -> None:
    client = fake.client()
    made = fake.create_key("demo", "vps:read")
    changed = client.update_key(
        made.key.key_id, state=KeyState.DISABLED, granted_scopes=["vps:write"]
    )
    assert changed.key.effective_scopes == ("vps:read", "vps:write")
    assert client.authenticate(made.api_key).reason is Reason.KEY_DISABLED
    with pytest.raises(RevisionChanged):
        client.update_key(made.key.key_id, display_name="x", if_revision=made.revision)
    soon = datetime.now(UTC) + timedelta(hours=1)
    client.update_key(made.key.key_id, state=KeyState.ACTIVE, expire_time=soon)
    assert client.authenticate(made.api_key)
    fake.set_clock(lambda: soon)
    assert client.authenticate(made.api_key).reason is Reason.KEY_EXPIRED
    with pytest.raises(NotFound):
        client.get_key("key_nothing")


def test_a_rotated_key_has_a_successor(fake: FakeServer) -> None:
    client = fake.client()
    made = fake.create_key("demo", "vps:read")
    rotated = client.rotate_key(made.key.key_id)
    assert client.check_scope(rotated.api_key, "vps:read")
    assert client.authenticate(made.api_key).reason is Reason.KEY_REVOKED
    assert client.get_key(made.key.key_id).rotated_to_key_id == rotated.key.key_id


def test_lists_come_in_pages_and_pass_filters(fake: FakeServer) -> None:
    client = fake.client()
    made = [fake.create_key("demo", scope) for scope in ("vps:read", "vps:write", "*")]
    client.revoke_key(made[0].key.key_id)
    listed = client.list_keys(keyspace="demo", page_size=2)
    assert [len(page.items) for page in listed.pages()] == [2, 1]
    assert [key.key_id for key in listed] == [one.key.key_id for one in made]
    found = client.list_keys(keyspace="demo", scope="vps:read")
    assert [key.key_id for key in found] == [one.key.key_id for one in made[1:]]
    assert [one.name for one in client.list_keyspaces(page_size=1)] == ["demo", "other"]


def test_a_lost_answer_does_not_make_two_keys(fake: FakeServer) -> None:
    client = fake.client()
    fake.lose_next_answer("CreateKey")
    with pytest.raises(RequestAlreadyDone) as caught:
        client.create_key(keyspace="demo", account_id="acct_1", scopes=["vps:read"])
    (key,) = client.list_keys(keyspace="demo")
    assert caught.value.key_id == key.key_id
    assert fake.calls("CreateKey") == 2


def test_calls_fail_as_planned(fake: FakeServer) -> None:
    client = fake.client()
    failure = Failure(grpc.StatusCode.UNAVAILABLE, "away", "STORE_UNAVAILABLE", {"a": "b"})
    fake.fail_next("UpdateKey", failure)
    made = fake.create_key("demo", "vps:read")
    with pytest.raises(Unavailable) as caught:
        client.update_key(made.key.key_id, display_name="x")
    assert (caught.value.reason, caught.value.metadata) == ("STORE_UNAVAILABLE", {"a": "b"})
    assert client.update_key(made.key.key_id, display_name="x")
    with pytest.raises(Unauthenticated):
        fake.client(token="kf_system_other").who_am_i()
    with pytest.raises(Unimplemented):
        client.get_account("acct_1")


def test_a_cache_forgets_a_key_before_its_revocation_returns(fake: FakeServer) -> None:
    made = fake.create_key("demo", "vps:read")
    cached = fake.client(cache=Cache())
    wait_until_live(cached, made.api_key)
    calls = fake.calls("CheckScope")
    assert cached.check_scope(made.api_key, "vps:read")
    assert fake.calls("CheckScope") == calls
    fake.revoke_key(made.key.key_id)
    assert cached.check_scope(made.api_key, "vps:read").reason is Reason.KEY_REVOKED
    cached.close()
    assert fake.uses(made.key.key_id) >= 1


def test_a_silent_cache_holds_a_revocation_up_until_its_lease_ends(fake: FakeServer) -> None:
    """A cache that acknowledges nothing is waited for, and no longer than its lease."""
    made = fake.create_key("demo", "vps:read")
    holders = fake._fake.holders
    silent = holders.join()
    with holders._changed:
        silent.until = time.monotonic() + 3600
    revoked = threading.Thread(target=fake.revoke_key, args=(made.key.key_id,), daemon=True)
    revoked.start()
    # Its answer waits, and its change is already told.
    assert silent.outgoing.get(timeout=PATIENCE_SECONDS) is not None
    assert revoked.is_alive()
    with pytest.raises(DeadlineExceeded):
        fake.client().revoke_key(made.key.key_id, timeout_seconds=0.2)
    with holders._changed:
        silent.until = 0.0
        holders._changed.notify_all()
    revoked.join(PATIENCE_SECONDS)
    assert not revoked.is_alive()


async def test_the_asynchronous_client_speaks_to_it_too(fake: FakeServer) -> None:
    made = fake.create_key("demo", "vps:read")
    async with fake.async_client(batching=Batching()) as client:
        assert isinstance(client, AsyncClient)
        assert await client.check_scope(made.api_key, "vps:read", keyspace="demo")
    assert fake.calls("BatchCheckScope") == 1


@pytest.mark.slow
def test_a_process_is_a_real_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if not ServerProcess.is_available():
        pytest.skip("the server is not installed")
    monkeypatch.setenv("KEYFENCE_TOKEN", "of another server")
    with ServerProcess({"KEYFENCE_LEASE_SECONDS": "1"}) as server, server.client() as client:
        assert client.who_am_i(timeout_seconds=PATIENCE_SECONDS).principal.keyspace == "system"
        directory = Path(server.target.removeprefix("unix:")).parent
    assert not directory.exists()
    monkeypatch.setenv("KEYFENCE_COMMAND", str(tmp_path / "nothing"))
    assert not ServerProcess.is_available()
    with pytest.raises(ConfigurationError, match="install keyfence-server"):
        ServerProcess()


def test_a_process_that_ends_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYFENCE_COMMAND", "sh -c 'echo no database; exit 5'")
    with pytest.raises(ConfigurationError, match="no database"):
        ServerProcess()
