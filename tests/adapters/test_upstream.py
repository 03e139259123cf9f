"""Calls to the server upstream: after a timeout, the next calls fail at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from keyfence import Tls, rpcs
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.application.ports import StoreRefuses, StoreUnavailable
from keyfence_server.telemetry.upstream import UpstreamStats
from support.tls import Authority

ASKED: Final = messages.FetchKeyspacesRequest()


class Silent(grpc.GenericRpcHandler):
    """Takes every call, and answers none."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(self._never)

    async def _never(self, _request: bytes, _context: Any) -> bytes:
        self.calls += 1
        await asyncio.Event().wait()
        return b""


class Answering(grpc.GenericRpcHandler):
    """Answers every call with an error, and why."""

    def __init__(self, code: grpc.StatusCode) -> None:
        self.calls = 0
        self._code = code

    def service(self, handler_call_details: Any) -> Any:
        del handler_call_details
        return grpc.unary_unary_rpc_method_handler(self._fail)

    async def _fail(self, _request: bytes, context: Any) -> bytes:
        self.calls += 1
        await context.abort(self._code, "why", (("grpc-status-details-bin", b"why"),))
        return b""


@asynccontextmanager
async def upstream_of(
    handler: grpc.GenericRpcHandler,
    path: Path,
    *,
    tls: Tls | None = None,
    call_seconds: float = 20,
) -> AsyncIterator[Upstream]:
    server = grpc.aio.server(handlers=[handler])
    server.add_insecure_port(f"unix:{path}/s")
    await server.start()
    upstream = Upstream(
        [f"unix:{path}/s"],
        token="kfop_any",
        tls=tls,
        insecure_plaintext=False,
        on_call=UpstreamStats().add,
        call_seconds=call_seconds,
    )
    yield upstream
    await upstream.close()
    await server.stop(None)


async def test_after_a_silence_the_next_question_is_not_put(tmp_path: Path) -> None:
    """A client repeats a check that it got no answer to, within one deadline. Two waits would
    use that up, and the caller would hear of a deadline and not of what is wrong."""
    silent = Silent()
    async with upstream_of(silent, tmp_path, call_seconds=2) as upstream:
        with pytest.raises(StoreUnavailable, match="DEADLINE_EXCEEDED"):
            await upstream.ask(rpcs.FETCH_KEYSPACES, ASKED)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="did not answer the last request"):
                await upstream.ask(rpcs.FETCH_KEYSPACES, ASKED)
    assert silent.calls == 1


async def test_a_server_that_cannot_answer_one_question_is_asked_the_next(tmp_path: Path) -> None:
    """Else one limited key whose limit cannot be counted would keep all others out."""
    answering = Answering(grpc.StatusCode.UNAVAILABLE)
    async with upstream_of(answering, tmp_path) as upstream:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="UNAVAILABLE"):
                await upstream.ask(rpcs.FETCH_KEYSPACES, ASKED)
    # At least: the channel repeats a call that got no answer, by itself.
    assert answering.calls >= 3


@pytest.mark.parametrize(
    "code", [grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED]
)
async def test_a_refusal_is_told_from_silence(tmp_path: Path, code: grpc.StatusCode) -> None:
    async with upstream_of(Answering(code), tmp_path) as upstream:
        with pytest.raises(StoreRefuses):
            await upstream.ask(rpcs.FETCH_KEYSPACES, ASKED)


async def test_a_unix_socket_is_asked_without_tls(tmp_path: Path) -> None:
    """Other servers upstream may need the file of authorities."""
    authorities = tmp_path / "ca.pem"
    authorities.write_bytes(Authority().pem)
    refusing = Answering(grpc.StatusCode.PERMISSION_DENIED)
    async with upstream_of(refusing, tmp_path, tls=Tls(ca_file=authorities)) as upstream:
        with pytest.raises(StoreRefuses):
            await upstream.ask(rpcs.FETCH_KEYSPACES, ASKED)
