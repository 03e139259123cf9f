"""Who may call what: as the descriptors say, for every RPC that there is."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, empty_pb2
from google.protobuf.descriptor import MethodDescriptor
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from keyfence.v1 import keyspace_pb2, options_pb2
from keyfence_server.domain.system import SYSTEM_KEYSPACE
from keyfence_server.rpc.origins import Origins
from keyfence_server.rpc.requirements import UndeclaredAccess, read_requirement
from support.serving import (
    METHODS,
    Refusal,
    Served,
    path_of,
    requirement_of,
    server_and_sidecar,
)

ON_THE_SHARED_SERVER = pytest.mark.asyncio(loop_scope="module")
CLOSED = [name for name, method in METHODS.items() if requirement_of(method).needs_credential]
SCOPED = [name for name in CLOSED if requirement_of(METHODS[name]).scope]
OPEN_SERVICES = {
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
}
FOR_OPERATORS = [
    name
    for name in SCOPED
    if requirement_of(METHODS[name]).access == options_pb2.ACCESS_UNSPECIFIED
]


def required_scope(name: str) -> str:
    scope = requirement_of(METHODS[name]).scope
    assert scope is not None
    return scope


async def outcome(served: Served, name: str, **arguments: Any) -> Refusal | None:
    """How a call with an empty request ends; None if it succeeds."""
    try:
        await served.client.call(name, **arguments)
    except grpc.aio.AioRpcError as error:
        return Refusal.of(error)
    return None


@ON_THE_SHARED_SERVER
async def test_the_table_is_the_whole_api(shared: Served) -> None:
    """These tests cover every RPC of the server, except the public ones."""
    asked = reflection_pb2.ServerReflectionRequest(list_services="")
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    call = stub(shared.client.channel)
    answers = [answer async for answer in call.ServerReflectionInfo(iter([asked]))]
    listed = {service.name for service in answers[0].list_services_response.service}
    assert listed - OPEN_SERVICES == {
        method.containing_service.full_name for method in METHODS.values()
    }
    assert {"Sync", "Check"} < set(METHODS)
    assert len(METHODS) == sum(
        len(service.methods)
        for service in {method.containing_service for method in METHODS.values()}
    )
    assert set(SCOPED) == set(METHODS) - {"WhoAmI", "RegisterAccount", "LogIn"}
    assert set(CLOSED) == set(METHODS) - {"RegisterAccount", "LogIn"}


@ON_THE_SHARED_SERVER
async def test_reflection_knows_methods_and_services(shared: Served) -> None:
    """Some clients ask for the file of a method."""
    names = ["KeyService", "KeyService.GetKey", "KeyService.NoSuchMethod"]
    asked = [
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=f"keyfence.v1.{name}")
        for name in names
    ]
    stub: Any = reflection_pb2_grpc.ServerReflectionStub
    call = stub(shared.client.channel)
    answers = [answer async for answer in call.ServerReflectionInfo(iter(asked))]
    assert [one.WhichOneof("message_response") for one in answers] == [
        "file_descriptor_response",
        "file_descriptor_response",
        "error_response",
    ]


@pytest.mark.parametrize("name", METHODS)
def test_every_rpc_says_who_may_call_it(name: str) -> None:
    requirement = requirement_of(METHODS[name])
    assert requirement.scope in SYSTEM_KEYSPACE.catalog or name in {"WhoAmI", "LogIn"}


@pytest.mark.parametrize("scope", [None, "keys:reed"])
def test_an_rpc_that_declares_nothing_sensible_keeps_the_server_from_starting(
    scope: str | None,
) -> None:
    with pytest.raises(UndeclaredAccess):
        read_requirement(method_requiring(scope))


def method_requiring(scope: str | None) -> MethodDescriptor:
    file = descriptor_pb2.FileDescriptorProto(
        name="undeclared.proto",
        package="undeclared",
        syntax="proto3",
        dependency=["keyfence/v1/options.proto", "google/protobuf/empty.proto"],
    )
    service = file.service.add(name="Service")
    method = service.method.add(
        name="Method", input_type=".google.protobuf.Empty", output_type=".google.protobuf.Empty"
    )
    if scope is not None:
        method.options.Extensions[options_pb2.required_scope] = scope
    pool = descriptor_pool.DescriptorPool()
    for known in (
        descriptor_pb2.DESCRIPTOR,
        empty_pb2.DESCRIPTOR,
        options_pb2.DESCRIPTOR,
    ):
        pool.AddSerializedFile(known.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    found: MethodDescriptor = pool.FindMethodByName("undeclared.Service.Method")
    return found


@pytest.mark.parametrize("name", CLOSED)
@ON_THE_SHARED_SERVER
async def test_no_rpc_answers_without_a_credential(shared: Served, name: str) -> None:
    refusal = await shared.client.refusal(name, credential=None)
    assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
    assert refusal.reason == "CREDENTIAL_REQUIRED"


@pytest.mark.parametrize("name", [*CLOSED, "RegisterAccount"])
@ON_THE_SHARED_SERVER
async def test_no_rpc_says_why_a_credential_is_not_accepted(shared: Served, name: str) -> None:
    """A malformed, an unknown and a revoked credential get the same answer."""
    made = await shared.client.call(
        "CreateKey",
        keyspace="system",
        account_id="operators",
        scopes=["*"],
        bound_keyspaces=["*"],
    )
    await shared.client.call("RevokeKey", key_id=made.key.key_id)
    key = SYSTEM_KEYSPACE.forms["operator", SYSTEM_KEYSPACE.default_environment].mint()
    refusals = [
        await shared.client.refusal(name, credential=credential)
        for credential in ("hunter2", key.reveal(), made.api_key)
    ]
    assert {refusal.reason for refusal in refusals} == {"CREDENTIAL_REJECTED"}
    assert {refusal.code for refusal in refusals} == {grpc.StatusCode.UNAUTHENTICATED}
    assert len({(refusal.message, str(refusal.metadata)) for refusal in refusals}) == 1


@pytest.mark.parametrize("name", SCOPED)
@ON_THE_SHARED_SERVER
async def test_all_other_scopes_together_are_not_enough(shared: Served, name: str) -> None:
    scope = required_scope(name)
    wanted = SYSTEM_KEYSPACE.catalog.required_mask([scope])
    others = [
        other
        for other in SYSTEM_KEYSPACE.catalog.names
        if not SYSTEM_KEYSPACE.catalog.mask([other]) & wanted
    ]
    refusal = await shared.client.refusal(
        name, credential=await shared.client.make_operator(*others)
    )
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED
    assert refusal.reason == "SCOPE_REQUIRED"
    assert refusal.metadata == {"required_scope": scope, "method": path_of(METHODS[name])}


@pytest.mark.parametrize("name", SCOPED)
@ON_THE_SHARED_SERVER
async def test_the_required_scope_is_enough(shared: Served, name: str) -> None:
    """It opens the RPC. What the request then lacks is another matter."""
    credential = await shared.client.make_operator(required_scope(name))
    refusal = await outcome(shared, name, credential=credential)
    assert refusal is None or refusal.reason not in {
        "CREDENTIAL_REQUIRED",
        "CREDENTIAL_REJECTED",
        "SCOPE_REQUIRED",
    }


@pytest.mark.parametrize("name", FOR_OPERATORS)
@ON_THE_SHARED_SERVER
async def test_an_account_s_scopes_do_not_open_an_operator_s_rpc(shared: Served, name: str) -> None:
    """Not even where they have the same names: keyspaces do not share them."""
    scopes = [keyspace_pb2.Scope(name=one) for one in SYSTEM_KEYSPACE.catalog.names]
    await shared.client.apply("lookalike", scopes=scopes)
    key = await shared.client.make_key("lookalike", scopes=["*"])
    refusal = await shared.client.refusal(name, credential=key.api_key)
    assert refusal.reason == "SCOPE_REQUIRED"


@ON_THE_SHARED_SERVER
async def test_an_account_s_key_manages_its_own_account_s_keys(shared: Served) -> None:
    mine = await shared.client.make_key(scopes=["vps:write"])
    theirs = await shared.client.make_key(account="acct_2")
    made = await shared.client.call("CreateKey", scopes=["vps:read"], credential=mine.api_key)
    assert made.key.account_id == "acct_1"
    refusal = await shared.client.refusal(
        "GetKey", key_id=theirs.key.key_id, credential=mine.api_key
    )
    assert refusal.reason == "KEY_NOT_FOUND"


@ON_THE_SHARED_SERVER
async def test_the_bearer_of_any_credential_may_ask_about_it(shared: Served) -> None:
    key = await shared.client.make_key(scopes=["vps:write"])
    answer = await shared.client.call("WhoAmI", credential=key.api_key)
    assert answer.principal.key_id == key.key.key_id
    assert list(answer.principal.effective_scopes) == ["vps:read", "vps:write"]


@ON_THE_SHARED_SERVER
async def test_two_credentials_are_none(shared: Served) -> None:
    """Neither the same one twice nor a good one behind a bad one."""
    good = ("authorization", f"Bearer {shared.client.root}")
    for other in (good, ("authorization", "Bearer hunter2"), ("authorization", "")):
        for order in ([good, other], [other, good]):
            refusal = await shared.client.refusal("WhoAmI", credential=None, metadata=order)
            assert refusal.reason == "CREDENTIAL_REJECTED"


@ON_THE_SHARED_SERVER
async def test_the_scheme_is_bearer_in_any_case(shared: Served) -> None:
    for scheme in ("bearer", "BEARER"):
        sent = [("authorization", f"{scheme} {shared.client.root}")]
        await shared.client.call("WhoAmI", credential=None, metadata=sent)
    sent = [("authorization", f"Basic {shared.client.root}")]
    refusal = await shared.client.refusal("WhoAmI", credential=None, metadata=sent)
    assert refusal.reason == "CREDENTIAL_REQUIRED"


@pytest.mark.parametrize(
    ("allowed", "is_let_in"), [("127.0.0.0/8", True), ("::1", True), ("192.0.2.0/24", False)]
)
async def test_a_credential_with_an_allow_list_calls_from_there_alone(
    serve: Any, allowed: str, *, is_let_in: bool
) -> None:
    """Whether it only reads or also changes something."""
    served = await serve(listen="[::1]:0" if ":" in allowed else "127.0.0.1:0")
    await served.client.apply()
    made = await served.client.call(
        "CreateKey",
        keyspace="system",
        account_id="operators",
        scopes=["*"],
        bound_keyspaces=["*"],
        allowed_addresses=[allowed],
    )
    for name, fields in (("WhoAmI", {}), ("CreateKey", {"keyspace": "demo", "account_id": "a"})):
        refusal = await outcome(served, name, credential=made.api_key, **fields)
        assert (refusal is None) == is_let_in
        assert refusal is None or refusal.reason == "CREDENTIAL_REJECTED"


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:4711", "2001:db8::1"),
        ("ipv6:[::1]:4711", "::1"),
        ("unix:/run/s", ""),
        ("unix:", ""),
        ("", ""),
    ],
)
def test_where_a_call_came_from(peer: str, address: str) -> None:
    assert Origins().address_of(peer, ()) == address


@pytest.mark.parametrize(
    "path",
    [
        "/keyfence.v1.KeyService/DeleteEverything",
        "/keyfence.v1.KeyService/",
        "/keyfence.v1.KeyService//CreateKey",
        "/keyfence.v1.KeyService/CreateKey/",
        "/keyfence.v1.keyservice/CreateKey",
        "/keyfence.v1.KeyService/../AuthorizationService/WhoAmI",
        "/keyfence.v1.AuthorizationService%2FWhoAmI",
        "keyfence.v1.AuthorizationService/WhoAmI",
        "/",
    ],
)
@ON_THE_SHARED_SERVER
async def test_what_is_no_rpc_is_refused(shared: Served, path: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await shared.client.call_raw(path, b"")
    refusal = Refusal.of(caught.value)
    assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
    assert refusal.reason == "METHOD_UNKNOWN"


async def test_a_sidecar_says_that_it_does_not_know_sessions() -> None:
    """Otherwise the bearer of a good token would be told that it is bad."""
    async with server_and_sidecar() as (server, sidecar):
        await server.client.apply(
            accounts=keyspace_pb2.Accounts(registration=keyspace_pb2.REGISTRATION_OPEN)
        )
        await server.client.register()
        token = await server.client.log_in()
        assert (await server.client.call("WhoAmI", credential=token)).principal.session_id
        refusal = await sidecar.client.refusal("WhoAmI", credential=token)
        assert refusal.code is grpc.StatusCode.UNAUTHENTICATED
        assert "a sidecar answers for keys alone" in refusal.message


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("203.0.113.8", "203.0.113.8"),
        # As the proxies of some clouds write it.
        ("203.0.113.8:5000", "203.0.113.8"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("198.51.100.1:1, 203.0.113.8:5000", "203.0.113.8"),
        ("203.0.113.8:5000, 192.0.2.1:77", "203.0.113.8"),
        # What cannot be read counts as the proxy: one place for all.
        ("unknown", "192.0.2.1"),
        ("203.0.113.8:port", "192.0.2.1"),
        ("203.0.113.8:5000000", "192.0.2.1"),
        ("", "192.0.2.1"),
    ],
)
def test_what_a_trusted_proxy_says_counts_without_the_port(forwarded: str, address: str) -> None:
    origins = Origins.trusting(["192.0.2.0/28"])
    sent = (("x-forwarded-for", forwarded),)
    assert origins.address_of("ipv4:192.0.2.1:50123", sent) == address
    # Anybody else can write it, too.
    assert origins.address_of("ipv4:192.0.2.99:50123", sent) == "192.0.2.99"
