"""`keyfence.v1.KeyspaceService`: declaring keyspaces and asking about them."""

from __future__ import annotations

from keyfence.v1 import keyspace_pb2
from keyfence.v1 import keyspace_service_pb2 as messages
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import Caller
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.domain.keyspaces import Keyspace
from keyfence_server.rpc.answer_sizes import Room
from keyfence_server.rpc.convert.keyspaces import (
    declaration_from,
    diff_of,
    keyspace_of,
    scope_report_of,
)
from keyfence_server.rpc.pipeline import Service


class KeyspaceService:
    """Asks the use cases of keyspaces."""

    def __init__(
        self, apply_keyspace: ApplyKeyspace, read_keyspaces: ReadKeyspaces, heavy: HeavyWork
    ) -> None:
        self._apply_keyspace = apply_keyspace
        self._read_keyspaces = read_keyspaces
        self._heavy = heavy

    def service(self) -> Service:
        """The service and its handlers."""
        return Service(
            messages.DESCRIPTOR.services_by_name["KeyspaceService"],
            {
                "ApplyKeyspace": self.apply_keyspace,
                "GetKeyspace": self.get_keyspace,
                "ListKeyspaces": self.list_keyspaces,
                "ExplainScope": self.explain_scope,
            },
        )

    async def apply_keyspace(
        self, request: messages.ApplyKeyspaceRequest, caller: Caller
    ) -> messages.ApplyKeyspaceResponse:
        """Applies a declaration, or says what that would do."""
        size = len(request.keyspace.scopes) + sum(
            len(resource.levels) for resource in request.keyspace.resources
        )
        declaration = await self._heavy.run(
            caller.credential_id or "", size, lambda: declaration_from(request.keyspace)
        )
        act = self._apply_keyspace.preview if request.validate_only else self._apply_keyspace.apply
        done = await act(
            caller,
            declaration,
            if_revision=request.if_revision,
            drop_formats=request.drop_previous_formats,
        )
        return messages.ApplyKeyspaceResponse(
            keyspace=await self._message_of(done.value.keyspace),
            diff=diff_of(done.value.diff),
            revision=done.revision,
        )

    async def get_keyspace(
        self, request: messages.GetKeyspaceRequest, caller: Caller
    ) -> messages.GetKeyspaceResponse:
        """Reads a keyspace's declaration."""
        return messages.GetKeyspaceResponse(
            keyspace=await self._message_of(await self._read_keyspaces.get(caller, request.name))
        )

    async def list_keyspaces(
        self, request: messages.ListKeyspacesRequest, caller: Caller
    ) -> messages.ListKeyspacesResponse:
        """Lists the keyspaces that the caller reaches."""
        page = await self._read_keyspaces.list(
            caller, page_size=request.page_size, page_token=request.page_token
        )
        found: list[keyspace_pb2.Keyspace] = []
        room = Room()
        for index, keyspace in enumerate(page.items):
            message = await self._message_of(keyspace)
            if not await room.fits(message):
                token = page.token_after(page.items[index - 1])
                return messages.ListKeyspacesResponse(keyspaces=found, next_page_token=token)
            found.append(message)
        return messages.ListKeyspacesResponse(keyspaces=found, next_page_token=page.next_page_token)

    async def _message_of(self, keyspace: Keyspace) -> keyspace_pb2.Keyspace:
        return await self._heavy.run(
            keyspace.name, len(keyspace.catalog.names), lambda: keyspace_of(keyspace)
        )

    async def explain_scope(
        self, request: messages.ExplainScopeRequest, caller: Caller
    ) -> messages.ExplainScopeResponse:
        """Says what a scope implies and what implies it."""
        return scope_report_of(
            await self._read_keyspaces.explain_scope(caller, request.keyspace, request.scope)
        )
