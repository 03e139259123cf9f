"""Noise on every RPC: never a fault of ours, never a yes, nothing secret in any sink."""

from __future__ import annotations

import io
import random
import sqlite3
import string
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.protobuf import message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from keyfence_server.domain.declarations import KeyspaceDeclaration
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.rpc.tracing import SpanPerCall
from keyfence_server.telemetry import logs
from support.serving import METHODS, PASSWORD, STREAMS, Served, path_of, read_metrics

OPEN: Final = (
    "/grpc.health.v1.Health/Check",
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
FAULTS: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
# Of the keyspace `demo`, which says nothing of its keys.
FORM: Final = next(iter(compile_keyspace(KeyspaceDeclaration(name="demo")).forms.values()))


async def outcome(served: Served, path: str, raw: bytes) -> grpc.StatusCode:
    """The code that a call with these bytes ends with."""
    sent = (("authorization", f"Bearer {served.client.root}"),)
    call: Any = (
        served.client.channel.stream_unary(path)(iter([raw]), metadata=sent, timeout=10)
        if "Reflection" in path or path in STREAMS
        else served.client.channel.unary_unary(path)(raw, metadata=sent, timeout=10)
    )
    code: grpc.StatusCode = await call.code()
    return code


class Noise:
    """Random messages, whose texts are often such as the fields could be about."""

    def __init__(self, seed: int, texts: list[str]) -> None:
        self._random = random.Random(seed)
        self._texts = texts

    def message(self, descriptor: Descriptor, depth: int = 0) -> Message:
        made = message_factory.GetMessageClass(descriptor)()
        for field in descriptor.fields:
            if self._random.random() < 0.3 + depth * 0.15:
                continue
            self._fill(made, field, depth)
        return made

    def _fill(self, made: Message, field: FieldDescriptor, depth: int) -> None:
        kind = field.message_type
        if kind is not None and kind.GetOptions().map_entry:
            self._fill_map(getattr(made, field.name), kind.fields_by_name["value"], depth)
        elif kind is not None and depth < 3:
            inner = self.message(kind, depth + 1)
            if field.is_repeated:
                getattr(made, field.name).append(inner)
            else:
                getattr(made, field.name).CopyFrom(inner)
        elif kind is None:
            value = self._scalar(field)
            if field.is_repeated:
                getattr(made, field.name).extend([value] * self._random.choice([1, 1, 2, 300]))
            else:
                setattr(made, field.name, value)

    def _fill_map(self, values: Any, item: FieldDescriptor, depth: int) -> None:
        if item.message_type is None:
            values[self._text()] = self._scalar(item)
        else:
            values[self._text()].CopyFrom(self.message(item.message_type, depth + 1))

    def _scalar(self, field: FieldDescriptor) -> object:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return self._text().encode()
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return self._text()
        if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
            return self._random.random() < 0.5
        wide = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)
        edge = 2 ** (63 if field.cpp_type in wide else 31)
        if field.cpp_type in (FieldDescriptor.CPPTYPE_UINT32, FieldDescriptor.CPPTYPE_UINT64):
            return self._random.choice([0, 1, 7, 100, 10_000, 2 * edge - 1])
        return self._random.choice([0, 1, -1, 7, 100, 10_000, edge - 1, -edge])

    def _text(self) -> str:
        if self._random.random() < 0.7:
            return self._random.choice(self._texts)
        letters = string.printable + "é\u202e\U0001f511\x00"
        return "".join(self._random.choices(letters, k=self._random.choice([1, 10, 600])))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("path", [*map(path_of, METHODS.values()), *OPEN])
async def test_random_bytes_are_never_a_fault_of_ours(shared: Served, path: str) -> None:
    noise = random.Random(path)
    codes = set()
    for size in [0, 1, 2, 3, 5, 8, 13, 100, 5_000] * 8:
        codes.add(await outcome(shared, path, noise.randbytes(size)))
    assert not codes & FAULTS
    assert grpc.StatusCode.INVALID_ARGUMENT in codes


async def test_health_s_stream_refuses_what_is_no_message(served: Served) -> None:
    call = served.client.channel.unary_stream("/grpc.health.v1.Health/Watch")(b"\xff", timeout=10)
    assert await call.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("name", METHODS)
async def test_random_messages_are_never_a_fault_of_ours(
    served: Served, name: str, log: io.StringIO
) -> None:
    key = await served.client.make_key(scopes=["vps:write"])
    # Well-formed keys that do not exist. Only the store can tell.
    made_up = [FORM.mint().reveal(), FORM.mint().reveal()]
    noise = Noise(
        seed=sum(map(ord, name)),
        texts=["demo", "system", "vps:read", "vps:*", "*", "live", "secret", "granted_scopes",
               "state", key.key.key_id, *made_up, "192.0.2.1", "::1", "", "a", "1e9"],
    )  # fmt: skip
    codes = set()
    for _ in range(120):
        request = noise.message(METHODS[name].input_type)
        try:
            answer = await served.client.call(name, request)
        except grpc.aio.AioRpcError as error:
            codes.add(error.code())
        else:
            codes.add(grpc.StatusCode.OK)
            assert not says_yes(answer)
    assert not codes & FAULTS
    # What was noted is written down at the end, and nothing of it may stand in the way.
    await served.server.stop()
    assert "notes_not_written" not in log.getvalue()
    assert not [one for one in made_up if one[12:] in log.getvalue()]


def says_yes(message: Message) -> bool:
    """Whether an answer allows anything, in any of its parts."""
    for field, value in message.ListFields():
        if field.name in {"allowed", "authenticated", "ok_response"}:
            return True
        kind = field.message_type
        if kind is None or kind.GetOptions().map_entry:
            continue
        if any(map(says_yes, value if field.is_repeated else [value])):
            return True
    return False


@pytest.mark.parametrize("rpc", ["Authenticate", "CheckScope", "BatchCheckScope"])
async def test_it_would_show_if_noise_were_let_through(served: Served, rpc: str) -> None:
    made = await served.client.make_key(scopes=["vps:write"])
    check: dict[str, Any] = {"api_key": made.api_key}
    if rpc != "Authenticate":
        check["required_scopes"] = ["vps:read"]
    fields = {"checks": [{"api_key": "x"}, check]} if rpc == "BatchCheckScope" else check
    assert says_yes(await served.client.call(rpc, **fields))


@pytest.fixture(params=["redacted", "as it is"])
def sink(
    request: pytest.FixtureRequest, log: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> io.StringIO:
    """Everything that is logged: as it is written, and as it would be without the redaction, which
    must not be needed."""
    if request.param == "as it is":
        monkeypatch.setattr(logs, "redact_event", lambda _logger, _method, event: event)
        logs.configure_logs("json", "debug", log)
    return log


async def test_a_key_shows_in_no_sink(
    serve: Any, sink: io.StringIO, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logs, metrics, traces, errors and the database's files are searched for the real
    secrets."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    served = await serve(
        metrics_listen="127.0.0.1:0", tracing=SpanPerCall(provider.get_tracer("tests"))
    )
    client = served.client
    await client.apply(accounts={"registration": "REGISTRATION_OPEN"})
    await client.register()
    token = await client.log_in()
    made = await client.make_key(scopes=["vps:write"])
    rotated = await client.call("RotateKey", key_id=made.key.key_id)
    keys = [made.api_key, rotated.api_key, client.root]
    said = []
    for secret in [*keys, token]:
        await client.call("Authenticate", api_key=secret)
        await client.refusal("WhoAmI", credential=secret[:-1])
        # In every place where it does not belong.
        for rpc, fields in (
            ("GetKey", {"key_id": secret}),
            ("RevokeKey", {"key_id": secret}),
            ("RevokeKey", {"key_id": made.key.key_id, "comment": secret * 3}),
            ("GetKeyspace", {"name": secret}),
            ("CheckScope", {"api_key": secret, "required_scopes": [secret], "keyspace": "demo"}),
            ("Authenticate", {"api_key": secret, "keyspace": secret}),
            ("Authenticate", {"api_key": secret, "client_address": secret}),
            ("LogIn", {"keyspace": "demo", "email": secret, "password": secret}),
        ):
            said.append(await client.refusal(rpc, **fields))
        sent = [("x-request-id", secret[-64:])]
        said.append(await client.refusal("WhoAmI", credential=None, metadata=sent))
        said.append(await client.refusal("GetKey", key_id="key_0", metadata=sent))
        await client.call("RevokeKey", key_id=rotated.key.key_id, metadata=sent)
    metrics = read_metrics(served)
    await served.server.stop()
    output = capfd.readouterr()
    text = "".join(
        [
            sink.getvalue(),
            metrics,
            output.out,
            output.err,
            *map(str, said),
            *(span.to_json() for span in spans.get_finished_spans()),
        ]
    )
    assert "credential_rejected" in text
    assert len(spans.get_finished_spans()) > 20
    # The body without its shown start and its checksum, and the whole in the database.
    for secret in [*keys, token, PASSWORD]:
        assert secret[-20:] not in text
        assert secret[-30:-10] not in text
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("keyfence.db*"))
    assert made.key.key_id.encode() in stored
    with sqlite3.connect(tmp_path / "data" / "keyfence.db") as database:
        dump = "\n".join(database.iterdump())
    database.close()
    for secret in [*keys, token, PASSWORD]:
        assert secret.encode() not in stored
        assert secret not in dump
        assert secret[-20:].encode() not in stored
