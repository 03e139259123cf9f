"""PostgreSQL's primary is killed, and a standby is promoted: docs/how-to/fail-over-postgresql.md.

The servers' URL names both machines. Which of them is the primary, the driver asks.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from incidents.conftest import Host, eventually
from incidents.test_backup import KEYSPACE, PEPPER, is_allowed, is_denied, make
from keyfence import Client, KeyfenceError
from support.served import Served
from testkit.postgres_pair import PostgresPair

pytestmark = [pytest.mark.slow, pytest.mark.postgres]


class Machines:
    """Two machines with PostgreSQL, and the directory where the standby finds the primary."""

    def __init__(self, way: Path) -> None:
        self.pair = PostgresPair(way)
        self._way = way
        self.pair.primary.start()
        self._database = self.pair.primary.create_database()
        both = (self.pair.primary, self.pair.standby)
        hosts = ",".join(str(one.socket.parent) for one in both)
        self.url = f"postgresql://postgres@/{self._database}?host={hosts}"
        self._point_to_the_primary()
        self.pair.replicate()

    def new_url(self) -> str:
        """The database on the machine that took over, and on no other."""
        return self.pair.primary.url(self._database)

    def old_url(self) -> str:
        """The database on the machine that was the primary."""
        return self.pair.standby.url(self._database)

    def wait_for_no_standby(self) -> None:
        """Has the primary answer commits that no standby has."""
        self.pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = ''")
        self.pair.primary.execute("SELECT pg_reload_conf()")

    def promote(self) -> None:
        self.pair.promote()
        self._point_to_the_primary()

    def _point_to_the_primary(self) -> None:
        link = self._way / self.pair.primary.socket.name
        link.unlink(missing_ok=True)
        link.symlink_to(self.pair.primary.socket)


@pytest.fixture
def machines(directory: Path) -> Iterator[Machines]:
    directory.chmod(0o755)
    way = directory / "way"
    way.mkdir(mode=0o755)
    made = Machines(way)
    try:
        yield made
    finally:
        made.pair.close()


def start(host: Host, machines: Machines) -> Served:
    host.settings = settings(machines)
    host.run("migrate")
    server = host.start(settings(machines))
    (host.directory / "demo.yaml").write_text(KEYSPACE)
    host.run("keyspaces", "apply", "-f", "demo.yaml")
    return server


def answers_changes(server: Served) -> bool:
    with Client(server.target, token=server.root_key, timeout_seconds=5) as client:
        try:
            client.create_key(keyspace="demo", account_id="probe")
        except KeyfenceError:
            return False
    return True


def test_servers_go_over_to_a_synchronous_standby_by_themselves(
    host: Host, machines: Machines
) -> None:
    server = start(host, machines)
    revoked, kept = make(host, "a"), make(host, "b")
    host.run("keys", "revoke", revoked[0])

    machines.pair.primary.kill()
    server.wait_for("store_unavailable")
    machines.promote()
    # The machine that was the primary comes back as the standby, as Patroni arranges it.
    machines.pair.add_standby()
    server.wait_for("store_failed_over")
    eventually(lambda: answers_changes(server), "changes are made again")
    eventually(lambda: server.get("/readyz")[0] == 200, "ready")
    is_denied(host, revoked[1])
    is_allowed(host, kept[1])
    assert "changes_lost_in_failover" not in server.output


def test_a_standby_without_the_last_revocation_is_noticed_and_healed(
    host: Host, machines: Machines
) -> None:
    machines.wait_for_no_standby()
    server = start(host, machines)
    revoked = make(host, "a")
    # The standby is cut off. Without `synchronous_standby_names` nothing waits for it.
    eventually(lambda: has_caught_up(machines), "the standby has the key")
    machines.pair.standby.kill()
    host.run("keys", "revoke", revoked[0])
    is_denied(host, revoked[1])

    machines.pair.primary.kill()
    machines.pair.standby.start()
    machines.promote()
    machines.wait_for_no_standby()
    lost = server.wait_for("changes_lost_in_failover")
    assert "audit restrictive-changes" in lost
    server.stop()

    # As the page says: from the machine that was the primary, reached by nobody else.
    machines.pair.standby.start()
    (host.directory / "data" / "high-water").unlink(missing_ok=True)
    host.start({**settings(machines), "KEYFENCE_DATABASE_URL": machines.new_url()})
    is_allowed(host, revoked[1])
    again = host.run("audit", "restrictive-changes", machines.old_url()).stdout
    commands = [shlex.split(line) for line in again.splitlines() if not line.startswith("#")]
    assert commands == [["keyfence", "keys", "revoke", revoked[0]]]
    for command in commands:
        host.run(*command[1:])
    is_denied(host, revoked[1])


def settings(machines: Machines) -> dict[str, str]:
    return {"KEYFENCE_DATABASE_URL": machines.url, "KEYFENCE_PEPPER": PEPPER}


def has_caught_up(machines: Machines) -> bool:
    rows = machines.pair.primary.execute(
        "SELECT replay_lsn >= pg_current_wal_lsn() AS done FROM pg_stat_replication"
    )
    return bool(rows) and bool(rows[0]["done"])
