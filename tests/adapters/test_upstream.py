"""Questions to the server upstream: nobody waits for what the last one waited for in vain."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.channels import Upstream
from keyfence_server.application.ports import StoreUnavailable


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


async def test_after_a_silence_the_next_question_is_not_put(tmp_path: Path) -> None:
    """A client repeats a check that it got no answer to, within one deadline. Two waits would
    use that up, and the caller would hear of a deadline and not of what is wrong."""
    silent = Silent()
    server = grpc.aio.server(handlers=[silent])
    server.add_insecure_port(f"unix:{tmp_path}/s")
    await server.start()
    upstream = Upstream(
        [f"unix:{tmp_path}/s"], token="kfop_any", tls=None, insecure_plaintext=False
    )
    request = messages.FetchKeyspacesRequest()
    with pytest.raises(StoreUnavailable, match="DEADLINE_EXCEEDED"):
        await upstream.fetch_keyspaces(request)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="did not answer the last question"):
            await upstream.fetch_keyspaces(request)
    assert silent.calls == 1
    await upstream.close()
    await server.stop(None)
