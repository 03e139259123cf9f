"""A guarded service lets in only calls that Keyfence has allowed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Sequence
from concurrent import futures
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.empty_pb2 import Empty
from google.protobuf.wrappers_pb2 import StringValue

from clients.python.tests.authority import Authority, Failure, Hang, a_principal, allowed, denied
from keyfence import AsyncClient, Client, ConfigurationError
from keyfence.guard import AsyncGuard, Guard, current_principal, find_principal, peer_address
from keyfence.v1 import authorization_service_pb2, options_pb2, reason_pb2

KEY = "kf_live_canary_7f3a9c"
CODE = grpc.StatusCode
UNIFORM = "a valid API key is required"

SHOP = "keyfence.tests.Shop"
SCOPED = ("Read", "ReadMany", "WriteMany", "Chat")


def describe_shop() -> None:
    """A user's service, as its generated code would register it."""
    pool = descriptor_pool.Default()
    file = descriptor_pb2.FileDescriptorProto(
        name="keyfence/tests/shop.proto",
        package="keyfence.tests",
        syntax="proto3",
        dependency=["google/protobuf/empty.proto", "google/protobuf/wrappers.proto"],
    )
    service = file.service.add(name="Shop")
    for name in (*SCOPED, "Undeclared", "Me", "Both", "OwnAccount", "Open"):
        method = service.method.add(
            name=name,
            input_type=".google.protobuf.Empty",
            output_type=".google.protobuf.StringValue",
        )
        if name in (*SCOPED, "Both"):
            method.options.Extensions[options_pb2.required_scope] = "shop:read"
        if name in ("Me", "Both"):
            method.options.Extensions[options_pb2.access] = options_pb2.ACCESS_ANY_CREDENTIAL
        if name == "OwnAccount":
            access = options_pb2.ACCESS_OPERATOR_OR_ACCOUNT
            method.options.Extensions[options_pb2.access] = access
    pool.Add(file)


try:
    descriptor_pool.Default().FindServiceByName(SHOP)
except KeyError:
    describe_shop()


def said() -> StringValue:
    return StringValue(value=current_principal().account_id)


class Handlers:
    """The shop's handlers, for threads."""

    def one(self, request: Any, context: Any) -> Any:
        principal = find_principal()
        return StringValue(value=principal.account_id if principal else "nobody")

    def many(self, request: Any, context: Any) -> Any:
        yield said()
        yield said()


class AsyncHandlers:
    """The shop's handlers, for an event loop."""

    async def one(self, request: Any, context: Any) -> Any:
        principal = find_principal()
        return StringValue(value=principal.account_id if principal else "nobody")

    async def many(self, request: Any, context: Any) -> Any:
        yield said()
        await asyncio.sleep(0)
        yield said()


def generic_handler(handlers: Any) -> Any:
    coders: dict[str, Any] = {
        "request_deserializer": Empty.FromString,
        "response_serializer": StringValue.SerializeToString,
    }
    one: Any = grpc.unary_unary_rpc_method_handler(handlers.one, **coders)
    kinds: dict[str, Any] = {
        "ReadMany": grpc.unary_stream_rpc_method_handler(handlers.many, **coders),
        "WriteMany": grpc.stream_unary_rpc_method_handler(handlers.one, **coders),
        "Chat": grpc.stream_stream_rpc_method_handler(handlers.many, **coders),
    }
    names = ("Read", "Undeclared", "Me", "Both", "OwnAccount", "Open", "NotInTheProto")
    return grpc.method_handlers_generic_handler(SHOP, {**dict.fromkeys(names, one), **kinds})


@dataclass
class Shop:
    """A guarded service, and a way to call it."""

    channel: grpc.aio.Channel

    async def __call__(
        self, name: str, metadata: Sequence[tuple[str, str]] = (("x-api-key", KEY),)
    ) -> list[str]:
        path = f"/{SHOP}/{name}"
        kinds = {
            "ReadMany": self.channel.unary_stream,
            "WriteMany": self.channel.stream_unary,
            "Chat": self.channel.stream_stream,
        }
        make: Any = kinds.get(name, self.channel.unary_unary)
        call = make(
            path,
            request_serializer=Empty.SerializeToString,
            response_deserializer=StringValue.FromString,
        )
        request = [Empty()] if name in ("WriteMany", "Chat") else Empty()
        answer = call(request, metadata=tuple(metadata), timeout=10)
        if inspect.isawaitable(answer):
            return [(await answer).value]
        return [message.value async for message in answer]

    async def refusal(self, name: str, *metadata: tuple[str, str]) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self(name, metadata)
        return caught.value.code(), caught.value.details() or ""


@dataclass
class Guarded:
    """A server under guard that can be made with any of the guard's settings."""

    authority: Authority
    is_async: bool
    closing: list[Any]

    async def start(self, check_timeout_seconds: float = 20, **settings: Any) -> Shop:
        settings = {"keyspace": "shop", "unguarded": [f"/{SHOP}/Open"], **settings}
        if self.is_async:
            client = AsyncClient(self.authority.target, check_timeout_seconds=check_timeout_seconds)
            server: Any = grpc.aio.server(interceptors=[AsyncGuard(client, **settings)])
            server.add_generic_rpc_handlers((generic_handler(AsyncHandlers()),))
        else:
            plain = Client(self.authority.target, check_timeout_seconds=check_timeout_seconds)
            client = plain  # type: ignore[assignment]
            pool = futures.ThreadPoolExecutor(4)
            server = grpc.server(pool, interceptors=[Guard(plain, **settings)])
            server.add_generic_rpc_handlers((generic_handler(Handlers()),))
        port = server.add_insecure_port("127.0.0.1:0")
        started = server.start()
        if inspect.isawaitable(started):
            await started
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        self.closing += [channel.close, lambda: server.stop(None), client.close]
        return Shop(channel)

    async def stop(self) -> None:
        for close in self.closing:
            closed = close()
            if inspect.isawaitable(closed):
                await closed
            elif closed is not None:
                await asyncio.to_thread(closed.wait)


@pytest.fixture(params=[True, False], ids=["async", "threads"])
async def guarded(request: pytest.FixtureRequest, authority: Authority) -> AsyncIterator[Guarded]:
    made = Guarded(authority, request.param, [])
    yield made
    await made.stop()


@pytest.fixture
async def shop(guarded: Guarded) -> Shop:
    return await guarded.start()


@pytest.mark.parametrize("name", SCOPED)
async def test_a_good_key_gets_in_and_the_handler_knows_whose_it_is(
    shop: Shop, authority: Authority, name: str
) -> None:
    authority.answer("CheckScope", allowed(principal=a_principal(account_id="acct_7")))
    assert set(await shop(name)) == {"acct_7"}
    assert authority.last.request == authorization_service_pb2.CheckScopeRequest(
        api_key=KEY, required_scopes=["shop:read"], keyspace="shop", client_address="127.0.0.1"
    )


@pytest.mark.parametrize("name", SCOPED)
async def test_a_bad_key_gets_nowhere(shop: Shop, authority: Authority, name: str) -> None:
    authority.answer("CheckScope", denied(reason_pb2.REASON_KEY_REVOKED))
    assert await shop.refusal(name, ("x-api-key", KEY)) == (CODE.UNAUTHENTICATED, UNIFORM)


async def test_callers_do_not_see_each_others_principal(shop: Shop, authority: Authority) -> None:
    def own(request: Any) -> Any:
        return allowed(principal=a_principal(account_id=request.api_key))

    authority.answer("CheckScope", *[own] * 40)
    answers = await asyncio.gather(
        *(shop("ReadMany" if n % 2 else "Read", [("x-api-key", f"k{n}")]) for n in range(40))
    )
    assert [set(answer) for answer in answers] == [{f"k{n}"} for n in range(40)]
    authority.answer("CheckScope", denied(reason_pb2.REASON_KEY_UNKNOWN))
    assert (await shop.refusal("Read", ("x-api-key", KEY)))[0] is CODE.UNAUTHENTICATED
    assert await shop("Open", []) == ["nobody"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_the_key_may_come_as_bearer(shop: Shop, authority: Authority, scheme: str) -> None:
    await shop("Read", [("authorization", f"{scheme} {KEY}")])
    assert authority.last.request.api_key == KEY


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        [("x-api-key", "")],
        [("authorization", "Bearer")],
        [("authorization", "Bearer ")],
        [("authorization", f"Basic {KEY}")],
        [("authorization", KEY)],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", "another")],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", KEY)],
        [("x-api-key", KEY), ("x-api-key", "another")],
        [("authorization", f"Bearer {KEY}"), ("authorization", "Bearer another")],
        [("authorization", "Basic eDp5"), ("x-api-key", KEY)],
    ],
)
async def test_no_credential_or_more_than_one_is_refused_without_asking(
    shop: Shop, authority: Authority, metadata: list[tuple[str, str]]
) -> None:
    """Of two, a gateway may have checked one while the service takes the other."""
    assert await shop.refusal("Read", *metadata) == (CODE.UNAUTHENTICATED, UNIFORM)
    assert authority.attempts == []


@pytest.mark.parametrize(
    "reason",
    [
        reason
        for reason in reason_pb2.Reason.values()
        if reason
        not in (
            reason_pb2.REASON_OK,
            reason_pb2.REASON_SCOPE_MISSING,
            reason_pb2.REASON_RATE_LIMITED,
        )
    ],
)
async def test_which_keys_exist_is_not_told(shop: Shop, authority: Authority, reason: Any) -> None:
    authority.answer("CheckScope", denied(reason))
    assert await shop.refusal("Read", ("x-api-key", KEY)) == (CODE.UNAUTHENTICATED, UNIFORM)


async def test_a_missing_scope_is_named(shop: Shop, authority: Authority) -> None:
    authority.answer("CheckScope", denied(reason_pb2.REASON_SCOPE_MISSING, ["shop:read"]))
    assert await shop.refusal("Read", ("x-api-key", KEY)) == (
        CODE.PERMISSION_DENIED,
        "the API key lacks: shop:read",
    )


async def test_a_missing_scope_is_not_named_if_that_is_not_wanted(
    guarded: Guarded, authority: Authority
) -> None:
    shop = await guarded.start(names_missing_scopes=False)
    authority.answer("CheckScope", denied(reason_pb2.REASON_SCOPE_MISSING, ["shop:read"]))
    code, message = await shop.refusal("Read", ("x-api-key", KEY))
    assert code is CODE.PERMISSION_DENIED
    assert "shop:read" not in message


async def test_a_limited_caller_is_not_told_that_its_key_is_bad(
    shop: Shop, authority: Authority
) -> None:
    authority.answer("CheckScope", denied(reason_pb2.REASON_RATE_LIMITED))
    assert (await shop.refusal("Read", ("x-api-key", KEY)))[0] is CODE.RESOURCE_EXHAUSTED


@pytest.mark.parametrize("name", ["Undeclared", "OwnAccount", "NotInTheProto"])
async def test_a_method_without_a_scope_is_open_to_no_caller(
    shop: Shop, authority: Authority, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await shop.refusal(name, ("x-api-key", KEY)))[0] is CODE.PERMISSION_DENIED
    assert authority.attempts == []
    assert name in caplog.text


async def test_any_good_key_may_call_what_says_so(shop: Shop, authority: Authority) -> None:
    assert await shop("Me") == ["acct_1"]
    assert authority.last.method == "Authenticate"
    assert authority.last.request.keyspace == "shop"


async def test_of_two_declarations_the_stricter_counts(shop: Shop, authority: Authority) -> None:
    await shop("Both")
    assert authority.last.method == "CheckScope"


async def test_what_is_unguarded_needs_no_key(shop: Shop, authority: Authority) -> None:
    assert await shop("Open", []) == ["nobody"]
    assert authority.attempts == []


async def test_a_whole_service_can_be_unguarded(guarded: Guarded) -> None:
    shop = await guarded.start(unguarded=[SHOP])
    assert await shop("Read", []) == ["nobody"]


async def test_a_method_without_a_handler_stays_unimplemented(shop: Shop) -> None:
    assert (await shop.refusal("Nowhere"))[0] is CODE.UNIMPLEMENTED


@pytest.mark.parametrize("name", SCOPED)
async def test_when_keyfence_is_away_no_call_gets_in_and_none_is_told_denied(
    shop: Shop, authority: Authority, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    await authority.stop()
    assert (await shop.refusal(name, ("x-api-key", KEY)))[0] is CODE.UNAVAILABLE
    assert KEY not in caplog.text


async def test_when_keyfence_hangs_the_caller_hears_within_the_deadline(
    guarded: Guarded, authority: Authority
) -> None:
    shop = await guarded.start(check_timeout_seconds=0.5)
    authority.answer("CheckScope", Hang())
    assert (await shop.refusal("Read", ("x-api-key", KEY)))[0] is CODE.UNAVAILABLE


@pytest.mark.parametrize(
    "failure",
    [
        Failure(CODE.INVALID_ARGUMENT, f"no scope, {KEY}", "UNKNOWN_SCOPE"),
        Failure(CODE.UNAUTHENTICATED, "who are you?", "CREDENTIAL_REJECTED"),
        Failure(CODE.PERMISSION_DENIED, "not bound", "KEYSPACE_NOT_BOUND"),
    ],
    ids=lambda failure: failure.reason,
)
async def test_a_fault_of_the_service_is_logged_and_not_blamed_on_the_caller(
    shop: Shop, authority: Authority, failure: Failure, caplog: pytest.LogCaptureFixture
) -> None:
    authority.answer("CheckScope", failure)
    assert await shop.refusal("Read", ("x-api-key", KEY)) == (
        CODE.INTERNAL,
        "authorization is not set up correctly",
    )
    assert failure.reason in caplog.text
    assert KEY not in caplog.text


async def test_a_fault_of_the_settings_lets_no_call_in(guarded: Guarded) -> None:
    def broken(context: Any) -> str:
        raise RuntimeError("secret detail")

    shop = await guarded.start(client_address=broken)
    code, message = await shop.refusal("Read", ("x-api-key", KEY))
    assert code is CODE.INTERNAL
    assert "secret detail" not in message


async def test_the_address_can_come_from_elsewhere(guarded: Guarded, authority: Authority) -> None:
    shop = await guarded.start(client_address=lambda context: "2001:db8::7")
    await shop("Read")
    assert authority.last.request.client_address == "2001:db8::7"


async def test_a_handler_that_would_block_the_loop_is_refused(
    authority: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with AsyncClient(authority.target) as client:
        server = grpc.aio.server(interceptors=[AsyncGuard(client, keyspace="shop")])
        server.add_generic_rpc_handlers((generic_handler(Handlers()),))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            shop = Shop(channel)
            assert (await shop.refusal("Read", ("x-api-key", KEY)))[0] is CODE.INTERNAL
        await server.stop(None)
    assert "not asynchronous" in caplog.text


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_guard_names_its_keyspace(kind: Any) -> None:
    """An empty one would accept the keys of every product."""
    with pytest.raises(ConfigurationError, match="keyspace"):
        kind(object(), keyspace="")


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_single_unguarded_name_is_not_taken_letter_by_letter(kind: Any) -> None:
    with pytest.raises(TypeError, match="not a string"):
        kind(object(), keyspace="shop", unguarded="grpc.health.v1.Health")


@dataclass
class Context:
    text: str

    def peer(self) -> str:
        return self.text


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:1234", "192.0.2.1"),
        ("ipv6:%5B2001:db8::1%5D:1234", "2001:db8::1"),
        ("ipv6:[2001:db8::1]:1234", "2001:db8::1"),
        ("unix:/run/x.sock", None),
        ("unix:", None),
        ("ipv4:nonsense", None),
        ("", None),
    ],
)
def test_the_address_of_a_peer(peer: str, address: str | None) -> None:
    assert peer_address(Context(peer)) == address


def test_outside_of_a_call_there_is_no_principal() -> None:
    assert find_principal() is None
    with pytest.raises(LookupError):
        current_principal()


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


async def verify(authority: Authority, is_async: bool, *services: str, **settings: Any) -> None:
    settings = {"keyspace": "shop", **settings}
    if is_async:
        async with AsyncClient(authority.target) as client:
            await AsyncGuard(client, **settings).verify(*services)
    else:
        with Client(authority.target) as plain:
            await asyncio.to_thread(Guard(plain, **settings).verify, *services)


def every_undeclared() -> list[str]:
    return [f"/{SHOP}/{name}" for name in ("Undeclared", "OwnAccount", "Open")]


def registered_only(*scopes: str) -> Any:
    """Answers a batch as a keyspace with these scopes does."""

    def answer(request: Any) -> Any:
        response = authorization_service_pb2.BatchCheckScopeResponse()
        for check in request.checks:
            result = response.results.add()
            if check.required_scopes[0] in scopes:
                result.response.CopyFrom(denied(reason_pb2.REASON_CREDENTIAL_MISSING))
            else:
                result.error.code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
                result.error.reason = "UNKNOWN_SCOPE"
                result.error.message = f"no scope {check.required_scopes[0]}"
        return response

    return answer


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "threads"])
async def test_a_start_finds_scopes_that_are_not_registered(
    authority: Authority, is_async: bool
) -> None:
    authority.answer("BatchCheckScope", registered_only("shop:read"))
    await verify(authority, is_async, SHOP, unguarded=every_undeclared())
    (check,) = authority.last.request.checks
    assert (check.api_key, check.keyspace) == ("", "shop")
    authority.answer("BatchCheckScope", registered_only("shop:write"))
    with pytest.raises(ConfigurationError, match="scope 'shop:read' of keyspace 'shop': no scope"):
        await verify(authority, is_async, SHOP, unguarded=every_undeclared())


@pytest.mark.parametrize("is_async", [True, False], ids=["async", "threads"])
async def test_a_start_finds_methods_that_declare_nothing(
    authority: Authority, is_async: bool
) -> None:
    authority.answer("BatchCheckScope", registered_only("shop:read"))
    with pytest.raises(ConfigurationError) as caught:
        await verify(authority, is_async, SHOP, unguarded=[f"/{SHOP}/Open"])
    assert f"/{SHOP}/Undeclared declares no required_scope" in str(caught.value)
    assert f"/{SHOP}/OwnAccount declares no required_scope" in str(caught.value)
    assert f"/{SHOP}/Open" not in str(caught.value)
    with pytest.raises(ConfigurationError, match=r"no descriptor of the service 'shop\.Nothing'"):
        await verify(authority, is_async, "shop.Nothing")
    with pytest.raises(ConfigurationError, match="name the services"):
        await verify(authority, is_async)
    await verify(authority, is_async, SHOP, unguarded=[SHOP])
