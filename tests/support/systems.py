"""A real server with the five systems' declarations at hand, and an operator to ask it."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Final

from keyfence import AsyncClient, Reason
from keyfence.v1.keyspace_pb2 import Keyspace
from keyfence_server.adapters.keyspace_files.reading import read_keyspace_file
from keyfence_server.composition.server import RunningServer
from keyfence_server.convert.keyspaces import keyspace_of

SYSTEMS: Final = ("quantumsafe", "quicksrv", "sitequest", "supascale", "xquik")

_EXAMPLES: Final = Path(__file__).parents[2] / "examples" / "keyspaces"


def declared_message(name: str) -> Keyspace:
    """A system as its file declares it."""
    return keyspace_of(read_keyspace_file(_EXAMPLES / f"{name}.yaml").keyspace)


class Authority:
    """A running server, its data and its log.

    Args:
        server: started by the test's fixture, and stopped by it at the latest.
        data_dir: where everything is that the server keeps.
        log: what this process logs.
    """

    def __init__(self, server: RunningServer, data_dir: Path, log: StringIO) -> None:
        self._server = server
        self._data_dir = data_dir
        self._log = log
        self._target = str(server.addresses[0])
        self.operator = self.client((data_dir / "root.key").read_text().strip())

    def client(self, token: str | None = None) -> AsyncClient:
        """A client that presents this credential, or none."""
        return AsyncClient(self._target, token=token)

    async def apply(self, name: str) -> None:
        """Applies a system's own file."""
        await self.operator.apply_keyspace(declared_message(name))

    async def reason(self, api_key: str, keyspace: str | None) -> Reason:
        """What a service learns of a key that was presented to it."""
        answer = await self.operator.authenticate(api_key, keyspace=keyspace)
        assert answer.authenticated == (answer.reason is Reason.OK)
        return answer.reason

    async def require_exactly(
        self, api_key: str, keyspace: str, held: Sequence[str], *, of: Sequence[str]
    ) -> None:
        """Asks for every scope by itself: those of `held` are allowed, all others denied."""
        for scope in of:
            answer = await self.operator.check_scope(api_key, scope, keyspace=keyspace)
            if scope in held:
                assert answer.allowed, f"{scope} was denied"
            else:
                assert not answer.allowed, f"{scope} was allowed"
                assert answer.reason is Reason.SCOPE_MISSING
                assert answer.missing_scopes == (scope,)

    async def stop_and_read_everything(self) -> bytes:
        """Every byte that the server leaves behind: its files, while it runs and afterwards,
        and its log."""
        running = self._files()
        await self.close()
        return b"\n".join([*running, *self._files(), self._log.getvalue().encode()])

    def _files(self) -> list[bytes]:
        paths = [path for path in sorted(self._data_dir.rglob("*")) if path.is_file()]
        assert paths
        return [path.read_bytes() for path in paths]

    async def close(self) -> None:
        """Stops the server. Stopping it twice is fine."""
        await self.operator.close()
        await self._server.stop()
