"""Who takes part in a scenario: servers, sidecars and SDKs, those who come later too."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from simulation.loop import Process
from simulation.topology import Grants, Sdk, Server, Sidecar, SoleServer, World

Participant = Grants | Sdk


class Cast:
    """All who there are now. Who has left is in it no more."""

    def __init__(self, world: World, ready: Callable[[Server], None], *, is_sole: bool) -> None:
        self.servers: list[Server] = []
        self.sidecars: list[Sidecar] = []
        self.sdks: list[Sdk] = []
        self._world = world
        self._ready = ready
        self._kind = SoleServer if is_sole else Server
        self._names = 0

    def holders(self) -> list[Participant]:
        """The participants that can be asked."""
        return [*(one for one in self.servers if one.is_up), *self.sidecars, *self.sdks]

    def everyone(self) -> list[Participant]:
        """All participants, also those that are starting."""
        return [*self.servers, *self.sidecars, *self.sdks]

    def server_above(self, one: Participant) -> Server | None:
        """The server process that its leases come from: itself, if it is one."""
        above: Participant | None = one
        while above is not None and not isinstance(above, Server):
            above = above.grantor
        return above if above in self.servers else None

    # --- coming and going -----------------------------------------------------------------

    def add_server(self, predecessor: Server | None = None) -> Server:
        """Another server process, perhaps in the place of one that is gone."""
        name = self._name("server")
        if predecessor is not None and self._world.parts.keeps_names:
            name = predecessor.process.name
        server = self._kind(self._world, name)
        self._ready(server)
        self.servers.append(server)
        server.start()
        return server

    def add_sidecar(self) -> None:
        """Another sidecar, behind the servers that there are at each time."""
        sidecar = Sidecar(self._world, self._name("sidecar"), lambda: self.servers)
        self.sidecars.append(sidecar)
        sidecar.start()

    def add_sdk(self, *, behind_sidecars: bool) -> None:
        """Another SDK."""

        def grantors() -> list[Any]:
            return self.sidecars if behind_sidecars and self.sidecars else self.servers

        sdk = Sdk(self._world, self._name("sdk"), grantors)
        self.sdks.append(sdk)
        sdk.start()

    def drain(self, server: Server) -> None:
        """Ends a server in order, and another one comes."""
        if isinstance(server, SoleServer):
            self._world.loop.world.start(self._replace(server))
        elif server.is_up:
            self.servers.remove(server)
            server.process.start(server.stop())
            self.add_server(server)

    async def _replace(self, server: SoleServer) -> None:
        """Replaces the server. No other process gets the database before this one has ended."""
        if server.is_up:
            await server.process.start(server.stop())
            self.servers.remove(server)
            self.add_server()

    def kill(self, one: Participant, source: random.Random) -> None:
        """Kills it, and starts another one."""
        one.process.kill()
        if isinstance(one, Server):
            self.servers.remove(one)
            self.add_server(one)
        elif isinstance(one, Sidecar):
            self.sidecars.remove(one)
            self.add_sidecar()
        elif isinstance(one, Sdk):
            self.sdks.remove(one)
            self.add_sdk(behind_sidecars=source.random() < 0.5)
        self._let_go_of(one.process, source)

    def _let_go_of(self, process: Process, source: random.Random) -> None:
        database, network = self._world.database, self._world.network
        for feed in tuple(database.listeners):
            if feed.process is process:
                del database.listeners[feed]
        for connection in tuple(network.connections):
            # If the machine has failed too, the other end is not told.
            if connection.server is process and source.random() < 0.8:
                connection.reset_client(0.01)
            elif connection.client is process and source.random() < 0.8:
                connection.reset_server(0.01)

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}-{self._names}"
