"""A key has leaked: docs/how-to/revoke-a-leaked-key.md, each step by the command."""

from __future__ import annotations

import json

import pytest

from incidents.conftest import Host, eventually
from incidents.test_backup import KEYSPACE, is_denied, make
from keyfence import Client

ABROAD = "203.0.113.7"


@pytest.mark.slow
def test_every_step_of_the_page(host: Host) -> None:
    server = host.start({"KEYFENCE_USAGE_FLUSH_SECONDS": "0.2"})
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    leaked, of_account, by_id, by_prefix, kept = (
        make(host, account) for account in ("acme", "acme", "bob", "carol", "dave")
    )
    with Client(server.target, token=server.root_key) as client:
        for _ in range(2):
            client.check_scope(leaked[1], "vps:read", client_address=ABROAD)
    eventually(lambda: uses(host, leaked[0]) == 2, "the uses are written")

    # Found by the key, from where it was used, and without a use more.
    found = host.run("keys", "find", "-", stdin=leaked[1]).stdout
    assert leaked[0] in found
    assert f"from {ABROAD}, 2 times in all" in found
    assert host.run("keys", "usage", leaked[0]).stdout.split()[-1] == "2"
    assert uses(host, leaked[0]) == 2

    # A scanner's file: plaintexts and ids, and a line that is none.
    lines = f"{leaked[1]}\n{by_id[0]}\nkf_live_nothing\n"
    done = host.run("keys", "revoke", "-", stdin=lines, expect=3)
    assert "line 3: there is no such key" in done.stderr
    assert "kf_live_nothing" not in done.stderr
    for revoked in (leaked, by_id):
        is_denied(host, revoked[1])

    # By display prefix and by account: first the number, then the confirmation.
    shown = json.loads(host.run("keys", "get", by_prefix[0], "-o", "json").stdout)["display_prefix"]
    for options, revoked in (
        (("--prefix", shown), by_prefix),
        (("--account", "acme"), of_account),
    ):
        command = ("keys", "revoke", "--keyspace", "demo", *options)
        asked = host.run(*command, expect=2).stderr
        assert f'Revoke 1 key of 1 account in "demo": {revoked[0]}' in asked
        assert "Nothing was revoked; confirm with --yes" in asked
        host.run(*command, "--yes")
        is_denied(host, revoked[1])
    host.run("check", "-", "-k", "demo", stdin=kept[1])

    # Who was refused since, and where from.
    with Client(server.target, token=server.root_key) as client:
        client.check_scope(leaked[1], "vps:read", client_address=ABROAD)
    eventually(lambda: ABROAD in refusals(host, leaked[0]), "the refusal is written")


def uses(host: Host, key_id: str) -> int:
    record = json.loads(host.run("keys", "get", key_id, "-o", "json").stdout)
    count: int = record["use_count"]
    return count


def refusals(host: Host, key_id: str) -> str:
    listing = ("audit", "list", "--subject", key_id, "--action", "check.denied", "-o", "json")
    return host.run(*listing).stdout
