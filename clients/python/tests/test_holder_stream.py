"""A holder's stream: what two of its tasks say at once arrives, all of it, and what a holder
has is given up for a server that lets it in alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from keyfence.connection import Connection
from keyfence.holder.dial import LET_IN, Dialer
from keyfence.holder.grpc_stream import GrpcStream
from keyfence.holder.lease import HolderLease
from keyfence.holder.session import PROTOCOL_VERSION, HolderSession, StreamBroken
from keyfence.v1 import replication_service_pb2 as messages


async def test_a_renewal_and_an_acknowledgement_may_be_sent_at_once(tmp_path: Path) -> None:
    """gRPC ends a call on which two messages are being sent: the lease would go with it."""
    heard: list[int] = []

    async def sync(
        requests: AsyncIterator[messages.SyncRequest], _context: Any
    ) -> AsyncIterator[messages.SyncResponse]:
        async for request in requests:
            heard.append(request.renew.nonce)
            yield messages.SyncResponse()

    class Everything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(
                sync,
                request_deserializer=messages.SyncRequest.FromString,
                response_serializer=messages.SyncResponse.SerializeToString,
            )

    server = grpc.aio.server(handlers=[Everything()])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{tmp_path}/s") as channel:
        call: Any = channel.stream_stream(
            "/any/Sync",
            request_serializer=messages.SyncRequest.SerializeToString,
            response_deserializer=messages.SyncResponse.FromString,
        )()
        stream = GrpcStream(call, (grpc.aio.AioRpcError,))

        async def say(first: int) -> None:
            for nonce in range(first, first + 100):
                await stream.send(messages.SyncRequest(renew=messages.Renew(nonce=nonce)))

        answers = stream.messages()
        speaking = asyncio.gather(*(say(100 * number) for number in range(4)))
        async with asyncio.timeout(20):
            for _ in range(400):
                await anext(answers)
            await speaking
        stream.close()
    await server.stop(None)
    assert sorted(heard) == list(range(400))


class Refusing(grpc.GenericRpcHandler):
    """A server that can be reached and refuses every holder, until it is told to accept them."""

    def __init__(self) -> None:
        self.heard: list[messages.SyncRequest] = []
        self.lets_in = False

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details
        return grpc.stream_stream_rpc_method_handler(
            self._sync,
            request_deserializer=messages.SyncRequest.FromString,
            response_serializer=messages.SyncResponse.SerializeToString,
        )

    async def _sync(
        self, requests: AsyncIterator[messages.SyncRequest], context: Any
    ) -> AsyncIterator[messages.SyncResponse]:
        if not self.lets_in:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")
        await context.send_initial_metadata(((LET_IN, "yes"),))
        async for request in requests:
            self.heard.append(request)
            yield messages.SyncResponse()


def connection_to(target: str) -> Connection:
    return Connection.resolve(target, token="kfop_any")


async def test_a_server_that_refuses_the_stream_hears_nothing_of_the_holder(
    tmp_path: Path,
) -> None:
    """A lease is given up before another grantor hears from the holder. A server that is about to
    stop can still be reached: a holder that gave up its lease for it would have none."""
    refusing = Refusing()
    server = grpc.aio.server(handlers=[refusing])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    dialer = Dialer([connection_to(f"unix:{tmp_path}/s")])
    with pytest.raises(StreamBroken, match="refuses the stream: UNAVAILABLE"):
        await dialer.open_stream()
    assert refusing.heard == []
    refusing.lets_in = True
    stream = await dialer.open_stream()
    await stream.send(messages.SyncRequest(hello=messages.Hello(holder_id="h" * 16)))
    async for _ in stream.messages():
        break
    assert [one.hello.holder_id for one in refusing.heard] == ["h" * 16]
    stream.close()
    await dialer.close()
    await server.stop(None)


class NoTime:
    """A clock on which time passes at once, and which remembers how long it was waited."""

    def __init__(self) -> None:
        self.time = 0.0
        self.waited: list[float] = []

    def now(self) -> float:
        return self.time

    async def sleep_until(self, time: float) -> None:
        self.waited.append(time - self.time)
        self.time = time
        await asyncio.sleep(0)


class Nothing:
    """A listener that has nothing to do."""

    def forget_everything(self, _head: int, _epoch: str) -> None: ...


@pytest.mark.parametrize(("asked", "least", "most"), [(0.0, 0.0, 1.0), (7.0, 7.0, 10.5)])
async def test_a_holder_waits_as_long_as_its_grantor_asks_and_else_a_second_at_most(
    asked: float, least: float, most: float
) -> None:
    """A grantor that is overloaded says how long it wants to be left alone. One that comes back
    after a long outage has its holders back soon, and not all of them at once."""
    clock = NoTime()
    tried = asyncio.Event()

    async def refuse() -> Any:
        if len(clock.waited) == 12:
            tried.set()
            await asyncio.Event().wait()
        raise StreamBroken("RESOURCE_EXHAUSTED", retry_after_seconds=asked)

    listener: Any = Nothing()
    session = HolderSession(refuse, messages.Hello(), HolderLease(), listener, clock)
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(20):
        await tried.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert all(least <= seconds <= most for seconds in clock.waited)
    assert len(set(clock.waited)) == 12


async def test_how_long_a_refusal_asks_to_wait_is_read(tmp_path: Path) -> None:
    """From the details of the status, before the holder is let in and on its stream."""
    info = error_details_pb2.ErrorInfo(domain="keyfence", reason="LIMIT_REACHED")
    info.metadata["retry_after_seconds"] = "7"
    told = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    told.details.add().Pack(info)
    details = (("grpc-status-details-bin", told.SerializeToString()),)

    class Overloaded(Refusing):
        async def _sync(
            self, requests: AsyncIterator[messages.SyncRequest], context: Any
        ) -> AsyncIterator[messages.SyncResponse]:
            if self.lets_in:
                await context.send_initial_metadata(((LET_IN, "yes"),))
                async for _ in requests:
                    break
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "later", details)
            yield messages.SyncResponse()

    server, overloaded = grpc.aio.server(), Overloaded()
    server.add_generic_rpc_handlers((overloaded,))
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    dialer = Dialer([connection_to(f"unix:{tmp_path}/s")])
    with pytest.raises(StreamBroken) as refused:
        await dialer.open_stream()
    assert refused.value.retry_after_seconds == 7
    overloaded.lets_in = True
    stream = await dialer.open_stream()
    await stream.send(messages.SyncRequest())
    with pytest.raises(StreamBroken) as ended:
        await anext(stream.messages())
    assert ended.value.retry_after_seconds == 7
    await dialer.close()
    await server.stop(None)


async def test_every_holder_says_which_version_of_the_protocol_it_speaks() -> None:
    """A server refuses a version that it does not know, and takes a missing one for the first."""
    sent: asyncio.Queue[messages.SyncRequest] = asyncio.Queue()

    class Noting:
        async def send(self, request: messages.SyncRequest) -> None:
            sent.put_nowait(request)
            raise StreamBroken("enough")

        async def messages(self) -> AsyncIterator[Any]:
            await asyncio.Event().wait()
            yield

        def close(self) -> None: ...

    async def open_stream() -> Noting:
        return Noting()

    listener: Any = Quiet()
    hello = messages.Hello(holder_id="a holder")
    session = HolderSession(open_stream, hello, HolderLease(), listener, NoTime())
    running = asyncio.create_task(session.run())
    async with asyncio.timeout(20):
        first = await sent.get()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert first.hello.holder_id == "a holder"
    assert first.hello.protocol_version == PROTOCOL_VERSION


class Quiet:
    """A listener that has nothing to acknowledge."""

    def forget_everything(self, _head: int, _epoch: str) -> None: ...

    def acknowledged(self) -> int:
        return 0

    def moved(self) -> asyncio.Future[None]:
        return asyncio.get_running_loop().create_future()


class Forgetful:
    """A listener that records whether the lease counts while it forgets."""

    def __init__(self, lease: HolderLease) -> None:
        self.lease = lease
        self.was_live: list[bool] = []

    def forget_everything(self, head: int, epoch: str) -> None:
        self.was_live.append(self.lease.is_live(0.0))

    def allow_for(self, drift: float) -> None:
        pass


def test_memory_is_emptied_before_a_lease_of_another_epoch_counts() -> None:
    """Checks come from other threads: one between the two would be answered from the memory of
    before."""
    lease = HolderLease()
    listener: Any = Forgetful(lease)
    nothing: Any = None
    session = HolderSession(nothing, messages.Hello(), lease, listener, _Still())
    for epoch in ("one", "two"):
        granted = messages.Lease(nonce=lease.request(0.0), head_revision=5, epoch=epoch)
        granted.ttl.FromSeconds(1_000)
        session._take_lease(granted)
        assert lease.is_live(0.0)
    assert listener.was_live == [False, False]


class _Still:
    """A clock that stands."""

    def now(self) -> float:
        return 0.0

    async def sleep_until(self, when: float) -> None:
        raise NotImplementedError
