"""`keyfence.v1.KeyspaceService`: keyspaces and their scopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from keyfence.v1 import keyspace_service_pb2 as messages
from keyfence_server.application.apply_keyspace import ApplyKeyspace
from keyfence_server.application.callers import Caller
from keyfence_server.application.heavy_work import HeavyWork
from keyfence_server.application.pages import PageRequest
from keyfence_server.application.read_keyspaces import ReadKeyspaces
from keyfence_server.convert.keyspaces import (
    declaration_from,
    diff_of,
    fill_in_slices,
    scope_report_of,
)
from keyfence_server.domain.catalog import MAX_STEPS
from keyfence_server.domain.errors import InvalidDeclaration
from keyfence_server.domain.keyspace_problems import MAX_NAMES
from keyfence_server.domain.keyspaces import MAX_PREVIOUS_FORMATS, MAX_SCOPES
from keyfence_server.rpc.answer_sizes import add_fitting_keyspaces
from keyfence_server.rpc.pipeline import Service

# What a declaration's size is counted in, where it is about time: a thing takes so many bytes.
_BYTES_A_THING: Final = 100
_MOST: Final = {
    "scopes": MAX_SCOPES,
    "resources": MAX_SCOPES,
    "presets": MAX_NAMES,
    "key_types": MAX_NAMES,
    "environments": MAX_NAMES,
    "previous_formats": MAX_PREVIOUS_FORMATS,
}


def require_counts(request: messages.ApplyKeyspaceRequest) -> None:
    """Refuses a declaration with more parts than it may have. Raises `InvalidDeclaration`."""
    keyspace = request.keyspace
    for name, most in _MOST.items():
        count = len(getattr(keyspace, name))
        if count > most:
            raise InvalidDeclaration.field(name, f"{count} of them; at most {most}")
    named = (
        sum(len(scope.implies) for scope in keyspace.scopes)
        + sum(len(resource.levels) for resource in keyspace.resources)
        + sum(len(preset.scopes) for preset in keyspace.presets)
        + sum(len(kind.scope_cap) for kind in keyspace.key_types)
        + len(keyspace.accounts.grantable_scopes)
        + len(request.drop_previous_formats)
    )
    if named > MAX_STEPS:
        raise InvalidDeclaration.field(
            (),
            f"its lists name {named} scopes and levels; at most {MAX_STEPS} in all: use wildcards",
        )


@dataclass(frozen=True, slots=True)
class KeyspaceService:
    """Asks the use cases of keyspaces."""

    _apply_keyspace: ApplyKeyspace
    _read_keyspaces: ReadKeyspaces
    _heavy: HeavyWork

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["KeyspaceService"],
            self,
            one_at_a_time=frozenset(
                {"ApplyKeyspace", "GetKeyspace", "ListKeyspaces", "ExplainScope"}
            ),
            counted={"ApplyKeyspace": require_counts},
        )

    async def apply_keyspace(
        self, request: messages.ApplyKeyspaceRequest, caller: Caller
    ) -> messages.ApplyKeyspaceResponse:
        declaration = await self._heavy.run(
            caller.credential_id or "",
            request.ByteSize() // _BYTES_A_THING,
            lambda: declaration_from(request.keyspace),
        )
        done = await self._apply_keyspace.apply(
            caller,
            declaration,
            if_revision=request.if_revision,
            drop_formats=request.drop_previous_formats,
            validate_only=request.validate_only,
        )
        answer = messages.ApplyKeyspaceResponse(
            diff=diff_of(done.value.diff), revision=done.revision
        )
        await fill_in_slices(answer.keyspace, done.value.keyspace)
        return answer

    async def get_keyspace(
        self, request: messages.GetKeyspaceRequest, caller: Caller
    ) -> messages.GetKeyspaceResponse:
        keyspace = await self._read_keyspaces.get(caller, request.name)
        answer = messages.GetKeyspaceResponse()
        await fill_in_slices(answer.keyspace, keyspace)
        return answer

    async def list_keyspaces(
        self, request: messages.ListKeyspacesRequest, caller: Caller
    ) -> messages.ListKeyspacesResponse:
        asked = PageRequest(page_size=request.page_size, page_token=request.page_token)
        page = await self._read_keyspaces.list(caller, asked)
        answer = messages.ListKeyspacesResponse()
        answer.next_page_token = await add_fitting_keyspaces(page, answer.keyspaces)
        return answer

    async def explain_scope(
        self, request: messages.ExplainScopeRequest, caller: Caller
    ) -> messages.ExplainScopeResponse:
        report = await self._read_keyspaces.explain_scope(caller, request.keyspace, request.scope)
        return await self._heavy.run(
            request.keyspace,
            sum(len(one.path) for one in (*report.implies, *report.implied_by)),
            lambda: scope_report_of(report),
        )
