"""A client that knows nothing of Keyfence but an address and a credential.

It has no stubs: it learns the API by server reflection, as tools like grpcurl do.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from support.served import Served

EXAMPLES = Path(__file__).parents[2] / "examples" / "keyspaces"


class GenericClient:
    """Calls RPCs by name with plain data, by what reflection says of them."""

    def __init__(self, target: str, credential: str) -> None:
        self._channel = grpc.insecure_channel(target)
        self._database = ProtoReflectionDescriptorDatabase(self._channel)
        self._pool = DescriptorPool(self._database)
        self._metadata = (("authorization", f"Bearer {credential}"),)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def call(self, service: str, method: str, request: dict[str, Any]) -> dict[str, Any]:
        described = self._pool.FindServiceByName(service).methods_by_name[method]
        request_class = GetMessageClass(described.input_type)
        response_class = GetMessageClass(described.output_type)
        invoke = self._channel.unary_unary(
            f"/{service}/{method}",
            request_serializer=request_class.SerializeToString,
            response_deserializer=response_class.FromString,
        )
        message = json_format.ParseDict(request, request_class())
        answer: dict[str, Any] = json_format.MessageToDict(
            invoke(message, metadata=self._metadata, timeout=10), preserving_proto_field_name=True
        )
        return answer

    def close(self) -> None:
        self._channel.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(
        tmp_path_factory.mktemp("generic"),
        {"KEYFENCE_BOOTSTRAP_KEYSPACES": str(EXAMPLES / "quicksrv.yaml")},
    )
    yield server
    server.stop()


@pytest.fixture
def client(served: Served) -> Iterator[GenericClient]:
    generic = GenericClient(served.target, served.root_key)
    yield generic
    generic.close()


KEYS = "keyfence.v1.KeyService"
CHECKS = "keyfence.v1.AuthorizationService"


def test_reflection_names_every_service(client: GenericClient) -> None:
    assert {KEYS, CHECKS, "keyfence.v1.KeyspaceService"} <= client.services()


def test_a_generic_client_leads_a_key_through_its_life(client: GenericClient) -> None:
    """Create, authenticate, check, batch, rotate and revoke, by reflection alone."""
    made = client.call(
        KEYS,
        "CreateKey",
        {"keyspace": "quicksrv", "account_id": "acct_1", "scopes": ["vps:write"]},
    )
    api_key, key_id = made["api_key"], made["key"]["key_id"]
    known = client.call(CHECKS, "Authenticate", {"api_key": api_key})
    assert known["authenticated"]
    assert known["principal"]["account_id"] == "acct_1"

    questions = [
        {"api_key": api_key, "required_scopes": ["vps:read"]},
        {"api_key": api_key, "required_scopes": ["vps:create"]},
    ]
    singles = [client.call(CHECKS, "CheckScope", question) for question in questions]
    assert [single.get("allowed", False) for single in singles] == [True, False]
    assert singles[1]["missing_scopes"] == ["vps:create"]
    batch = client.call(CHECKS, "BatchCheckScope", {"checks": questions})
    assert [result["response"] for result in batch["results"]] == singles

    rotated = client.call(KEYS, "RotateKey", {"key_id": key_id})
    assert not client.call(CHECKS, "Authenticate", {"api_key": api_key}).get("authenticated")
    assert client.call(CHECKS, "Authenticate", {"api_key": rotated["api_key"]})["authenticated"]

    client.call(KEYS, "RevokeKey", {"key_id": rotated["key"]["key_id"]})
    refused = client.call(CHECKS, "Authenticate", {"api_key": rotated["api_key"]})
    assert refused["reason"] == "REASON_KEY_REVOKED"
