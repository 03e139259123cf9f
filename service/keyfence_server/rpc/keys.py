"""`keyfence.v1.KeyService`: keys."""

from __future__ import annotations

from dataclasses import dataclass

from keyfence.v1 import key_service_pb2 as messages
from keyfence_server.application.callers import Caller
from keyfence_server.application.create_key import CreateKey, NewKey
from keyfence_server.application.import_keys import ImportKeys
from keyfence_server.application.read_keys import ReadKeys
from keyfence_server.application.revoke_key import RevokeKey
from keyfence_server.application.rotate_key import RotateKey, Rotation
from keyfence_server.application.update_key import UpdateKey
from keyfence_server.convert.fields import value_from
from keyfence_server.convert.keys import (
    ListedKeys,
    key_of,
    key_to_import_from,
    listing_from,
    update_from,
)
from keyfence_server.domain.redaction import hide_keys
from keyfence_server.rpc.answer_sizes import add_fitting
from keyfence_server.rpc.pipeline import Service


@dataclass(frozen=True, slots=True)
class KeyService:
    """Asks the use cases of keys."""

    _create_key: CreateKey
    _import_keys: ImportKeys
    _read_keys: ReadKeys
    _update_key: UpdateKey
    _rotate_key: RotateKey
    _revoke_key: RevokeKey

    def service(self) -> Service:
        return Service(
            messages.DESCRIPTOR.services_by_name["KeyService"],
            self,
            one_at_a_time=frozenset({"ListKeys"}),
        )

    async def create_key(
        self, request: messages.CreateKeyRequest, caller: Caller
    ) -> messages.CreateKeyResponse:
        done = await self._create_key.create(caller, value_from(NewKey, request))
        return messages.CreateKeyResponse(
            key=key_of(done.value.facts),
            api_key=done.value.plaintext.reveal(),
            revision=done.revision,
        )

    async def import_keys(
        self, request: messages.ImportKeysRequest, caller: Caller
    ) -> messages.ImportKeysResponse:
        keys = [key_to_import_from(one) for one in request.keys]
        carry_out = (
            self._import_keys.preview if request.validate_only else self._import_keys.import_keys
        )
        done = await carry_out(caller, request.keyspace, keys)
        return messages.ImportKeysResponse(
            imported_count=done.value.count,
            present_count=done.value.present,
            refused=(
                messages.RefusedImport(
                    index=index, reason=error.reason, message=hide_keys(str(error))
                )
                for index, error in done.value.refused
            ),
            revision=done.revision,
        )

    async def get_key(
        self, request: messages.GetKeyRequest, caller: Caller
    ) -> messages.GetKeyResponse:
        return messages.GetKeyResponse(
            key=ListedKeys().write(await self._read_keys.get(caller, request.key_id))
        )

    async def get_key_usage(
        self, request: messages.GetKeyUsageRequest, caller: Caller
    ) -> messages.GetKeyUsageResponse:
        days = await self._read_keys.use_days(
            caller, request.key_id, first=request.first_day, last=request.last_day
        )
        return messages.GetKeyUsageResponse(
            days=(messages.KeyUsageDay(day=day.isoformat(), use_count=count) for day, count in days)
        )

    async def list_keys(
        self, request: messages.ListKeysRequest, caller: Caller
    ) -> messages.ListKeysResponse:
        page = await self._read_keys.list(caller, listing_from(request))
        answer = messages.ListKeysResponse()
        answer.next_page_token = await add_fitting(page, ListedKeys().write, answer.keys)
        return answer

    async def update_key(
        self, request: messages.UpdateKeyRequest, caller: Caller
    ) -> messages.UpdateKeyResponse:
        done = await self._update_key.update(caller, update_from(request))
        return messages.UpdateKeyResponse(key=key_of(done.value), revision=done.revision)

    async def rotate_key(
        self, request: messages.RotateKeyRequest, caller: Caller
    ) -> messages.RotateKeyResponse:
        done = await self._rotate_key.rotate(caller, value_from(Rotation, request))
        rotated = done.value
        return messages.RotateKeyResponse(
            key=key_of(rotated.successor.facts),
            api_key=rotated.successor.plaintext.reveal(),
            previous_key=key_of(rotated.previous),
            revision=done.revision,
        )

    async def revoke_key(
        self, request: messages.RevokeKeyRequest, caller: Caller
    ) -> messages.RevokeKeyResponse:
        done = await self._revoke_key.revoke(caller, request.key_id, comment=request.comment)
        return messages.RevokeKeyResponse(key=key_of(done.value), revision=done.revision)
