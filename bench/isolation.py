"""What a tenant can cost another: a victim's checks and revocations while a tenant does its worst.

    python -m bench.isolation NAME TARGET < credential

repeats an attack on the server until it is ended, for two minutes at the most, with a credential
that reaches the keyspace `tenant` alone.

The attacker shares the machine's processors with the server, which a tenant would not. So there
are two servers with the same contents, and the victim's times while its own server is attacked
stand beside its times while the other one is.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import uvloop

from bench.processes import ROOT, ServerProcess, environment, running, until_answering
from bench.report import Report, p99
from keyfence import AsyncClient
from keyfence.v1 import account_service_pb2 as accounts
from keyfence.v1 import authorization_service_pb2 as checks
from keyfence.v1 import key_service_pb2 as keys
from keyfence.v1 import keyspace_pb2
from keyfence.v1 import keyspace_service_pb2 as keyspaces
from keyfence.v1 import replication_service_pb2 as replication

_LONGEST_SECONDS: Final = 120.0
_DEADLINE_SECONDS: Final = 30.0
_TENANT, _VICTIM = "tenant", "victim"
_SCOPES: Final = 2_000

Attack = Callable[["_Tenant"], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Tenant:
    """The attacker's connection, and a key of its own keyspace."""

    channel: grpc.aio.Channel
    credential: str
    api_key: str

    async def call(self, rpc: str, request: Any, *, anonymous: bool = False) -> bytes:
        """Sends a request, whatever becomes of it."""
        sent = () if anonymous else (("authorization", f"Bearer {self.credential}"),)
        call: Any = self.channel.unary_unary(f"/keyfence.v1.{rpc}")
        with contextlib.suppress(grpc.aio.AioRpcError):
            return bytes(
                await call(request.SerializeToString(), metadata=sent, timeout=_DEADLINE_SECONDS)
            )
        return b""


def _scope(number: int) -> str:
    return f"s{number:05d}{'x' * 40}"


def _chain(scopes: int, display_name: str = "") -> keyspace_pb2.Keyspace:
    """A keyspace whose scopes imply one another in one long line."""
    return keyspace_pb2.Keyspace(
        name=_TENANT,
        display_name=display_name,
        scopes=[
            keyspace_pb2.Scope(
                name=_scope(one), implies=[_scope(one + 1)] if one + 1 < scopes else []
            )
            for one in range(scopes)
        ],
    )


async def apply_a_catalog(tenant: _Tenant) -> None:
    """Applies the catalog again and again, each time with another name."""
    request = keyspaces.ApplyKeyspaceRequest(keyspace=_chain(_SCOPES, f"{time.monotonic()}"))
    await tenant.call("KeyspaceService/ApplyKeyspace", request)


async def dry_runs(tenant: _Tenant) -> None:
    """Applies as large a catalog as there may be, without effect."""
    request = keyspaces.ApplyKeyspaceRequest(keyspace=_chain(9_000), validate_only=True)
    await tenant.call("KeyspaceService/ApplyKeyspace", request)


async def many_forms(tenant: _Tenant) -> None:
    """Declares thousands of forms of keys."""
    names = range(100)
    keyspace = keyspace_pb2.Keyspace(
        name=_TENANT,
        display_name=f"{time.monotonic()}",
        scopes=[keyspace_pb2.Scope(name=_scope(0))],
        format=keyspace_pb2.KeyFormat(template="tenant_{type}_{environment}_{body}"),
        key_types=[keyspace_pb2.KeyType(name=f"t{one}") for one in names],
        environments=[keyspace_pb2.Environment(name=f"e{one}") for one in names],
    )
    request = keyspaces.ApplyKeyspaceRequest(keyspace=keyspace, validate_only=True)
    await tenant.call("KeyspaceService/ApplyKeyspace", request)


def _explained(tenant: _Tenant) -> checks.CheckScopeRequest:
    scopes = [_scope(_SCOPES - 1 - one) for one in range(64)]
    return checks.CheckScopeRequest(api_key=tenant.api_key, required_scopes=scopes, explain=True)


async def explanations(tenant: _Tenant) -> None:
    """Asks for explanations of the longest paths."""
    await tenant.call("AuthorizationService/CheckScope", _explained(tenant))


async def batches(tenant: _Tenant) -> None:
    """Asks for as many explanations as a batch may hold."""
    request = checks.BatchCheckScopeRequest(checks=[_explained(tenant)] * 256)
    await tenant.call("AuthorizationService/BatchCheckScope", request)


async def creates(tenant: _Tenant) -> None:
    """Creates ninety keys at a time."""
    request = keys.CreateKeyRequest(keyspace=_TENANT, account_id="a", scopes=[_scope(0)])
    await asyncio.gather(*[tenant.call("KeyService/CreateKey", request) for _ in range(90)])


async def listings(tenant: _Tenant) -> None:
    """Lists the largest pages."""
    request = keys.ListKeysRequest(keyspace=_TENANT, page_size=1_000)
    await asyncio.gather(*[tenant.call("KeyService/ListKeys", request) for _ in range(8)])


async def reports(tenant: _Tenant) -> None:
    """Reports ten thousand uses at a time."""
    used = [replication.ReportedUse(key_id=f"key_{one}", count=1) for one in range(10_000)]
    await tenant.call("ReplicationService/ReportUses", replication.ReportUsesRequest(uses=used))


async def _hold(tenant: _Tenant, number: int, *, renews: bool) -> None:
    call: Any = tenant.channel.stream_stream("/keyfence.v1.ReplicationService/Sync")
    stream = call(metadata=(("authorization", f"Bearer {tenant.credential}"),))
    hello = replication.Hello(
        holder_id=f"holder-{time.monotonic_ns()}-{number}", kind=replication.HOLDER_KIND_SDK
    )
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await stream.write(replication.SyncRequest(hello=hello).SerializeToString())
        for nonce in range(1, 40):
            if renews:
                renew = replication.Renew(nonce=nonce, applied_revision=0)
                await stream.write(replication.SyncRequest(renew=renew).SerializeToString())
            await asyncio.sleep(0.25)
    stream.cancel()


async def never_acknowledging_holders(tenant: _Tenant) -> None:
    """Renews leases without ever acknowledging a revision."""
    await asyncio.gather(*[_hold(tenant, one, renews=True) for one in range(10)])


async def a_thousand_streams(tenant: _Tenant) -> None:
    """Opens streams that say hello and nothing more."""
    await asyncio.gather(*[_hold(tenant, one, renews=False) for one in range(1_000)])


async def a_stranger_registers(tenant: _Tenant) -> None:
    """Sends the largest registration, without a credential."""
    request = accounts.RegisterAccountRequest(
        keyspace="nowhere", email="a@example.com", password="x"
    )
    for one in range(200_000):
        request.labels[format(one, "x")] = ""
    await tenant.call("AccountService/RegisterAccount", request, anonymous=True)


ATTACKS: Final[Mapping[str, Attack]] = {
    one.__name__: one
    for one in (
        apply_a_catalog,
        dry_runs,
        many_forms,
        explanations,
        batches,
        creates,
        listings,
        reports,
        never_acknowledging_holders,
        a_thousand_streams,
        a_stranger_registers,
    )
}


@dataclass(frozen=True, slots=True)
class _Site:
    """A server with both tenants, and what each calls it with."""

    server: ServerProcess
    attacker: str


def measure(
    report: Report,
    *,
    rounds: int,
    checks: int,
    revocations: int,
    attacks: Sequence[str] = tuple(ATTACKS),
) -> None:
    """Measures, for each attack, the victim's p99 of checks and of revocations.

    Args:
        attacks: their names.
        checks: one after another, in each round.
        revocations: one after another, beside the checks.
    """
    table = report.table(
        "isolation",
        "A victim's calls while another tenant attacks its server (here) or another server of the "
        f"same machine (elsewhere): {rounds} rounds of {checks} checks and {revocations} "
        "revocations",
    )
    for name in attacks:
        with _site() as here, _site() as there:
            took = [
                uvloop.run(_beside(name, here, there, checks, revocations)) for _ in range(rounds)
            ]
        for call in ("CheckScope", "RevokeKey"):
            table.compare(
                "p99, ms",
                {
                    f"{call}, {where}": [one[call, where] for one in took]
                    for where in ("here", "elsewhere")
                },
                ratio=f"{call}, p99 here ÷ elsewhere",
                group=name.replace("_", " "),
                at_most=3,
            )


async def _beside(
    name: str, here: _Site, there: _Site, checks: int, revocations: int
) -> dict[tuple[str, str], float]:
    took = {}
    async with AsyncClient(here.server.target, token=here.server.token) as victim:
        for where, site in (("elsewhere", there), ("here", here)):
            made = [
                await victim.create_key(keyspace=_VICTIM, account_id="v", scopes=["v:read"])
                for _ in range(revocations + 1)
            ]
            used, *doomed = made
            with _attacking(name, site):
                await asyncio.sleep(1.0)
                check = asyncio.create_task(
                    _p99_ms(lambda: victim.check_scope(used.api_key, "v:read"), checks)  # noqa: B023
                )
                ids = iter([one.key.key_id for one in doomed])
                took["RevokeKey", where] = await _p99_ms(
                    lambda: victim.revoke_key(next(ids)),  # noqa: B023
                    revocations,
                )
                took["CheckScope", where] = await check
    return took


async def _p99_ms(call: Callable[[], Awaitable[object]], times: int) -> float:
    took = []
    for _ in range(times):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
        await asyncio.sleep(0.001)
    return p99(took) * 1e3


@contextmanager
def _attacking(name: str, site: _Site) -> Iterator[None]:
    command = [sys.executable, "-m", "bench.isolation", name, site.server.target]
    child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE)
    try:
        assert child.stdin is not None
        child.stdin.write(f"{site.attacker}\n".encode())
        child.stdin.close()
        yield
    finally:
        child.kill()
        child.wait()


@contextmanager
def _site() -> Iterator[_Site]:
    with tempfile.TemporaryDirectory(prefix="kfb-") as name:
        directory = Path(name)
        target = f"unix:{directory / 's'}"
        settings = {
            **environment(),
            "KEYFENCE_LISTEN": target,
            "KEYFENCE_DATA_DIR": str(directory / "data"),
            "KEYFENCE_LOG_LEVEL": "error",
        }
        command = [sys.executable, "-m", "keyfence_server", "serve"]
        with running(command, settings, until_answering(target)) as process:
            token = (directory / "data" / "root.key").read_text().strip()
            server = ServerProcess("server", target, token, process)
            yield _Site(server, uvloop.run(_set_up(server)))


async def _set_up(server: ServerProcess) -> str:
    """Makes both tenants, and answers with the attacker's credential."""
    async with AsyncClient(server.target, token=server.token) as operator:
        await operator.apply_keyspace(_chain(_SCOPES))
        await operator.apply_keyspace(
            keyspace_pb2.Keyspace(name=_VICTIM, scopes=[keyspace_pb2.Scope(name="v:read")])
        )
        made = await operator.create_key(
            keyspace="system",
            account_id="tenant",
            scopes=["keys:*", "keyspaces:write", "replication:sync", "accounts:write"],
            bound_keyspaces=[_TENANT],
        )
        return made.api_key


async def _attack(name: str, target: str, credential: str) -> None:
    until = time.monotonic() + _LONGEST_SECONDS
    async with AsyncClient(target, token=credential) as client:
        made = await client.create_key(keyspace=_TENANT, account_id="a", scopes=[_scope(0)])
    large = [("grpc.max_receive_message_length", -1)]
    async with grpc.aio.insecure_channel(target, options=large) as channel:
        tenant = _Tenant(channel, credential, made.api_key)
        while time.monotonic() < until:
            await ATTACKS[name](tenant)
            # An attack that is refused at once must not become a flood of calls: what that
            # costs is the subject of `bench.attack`.
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    name, target = sys.argv[1:]
    asyncio.run(_attack(name, target, sys.stdin.readline().strip()))
