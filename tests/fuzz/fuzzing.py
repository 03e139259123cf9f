"""The fuzzer: random requests from every kind of caller, and the rules that no answer breaks.

Without its guards this shows: a fault of Keyfence (`INTERNAL`), an accept of a key that was
revoked or never made, a word about another tenant, a change of another tenant's key, a request
that keeps the event loop, memory that grows.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf import message_factory
from google.protobuf.message import DecodeError, Message

from fuzz.messages import Requests
from fuzz.target import MARKERS, Target
from support.serving import METHODS, STREAMS, path_of

FAULTS: Final = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}
_YES: Final = {"allowed", "authenticated", "ok_response"}
_RENEW_EVERY: Final = 250
_SHARE_THAT_GIVE_UP: Final = 0.1
# Envoy asks about another program's request, and `Sync` is a conversation: they have suites of
# their own.
_LEFT_OUT: Final = {"Check"}


@dataclass
class Findings:
    """What a run has seen.

    Attributes:
        faults: what must not be, in words, with the seed and the number of the request.
        codes: how often each RPC ended with each status.
        most_cpu: the most CPU seconds that the server spent on one request, by RPC.
    """

    faults: list[str] = field(default_factory=list)
    codes: Counter[tuple[str, str]] = field(default_factory=Counter)
    most_cpu: dict[str, float] = field(default_factory=dict)

    def reached(self) -> set[str]:
        """The RPCs that have answered OK, so that their handlers did all of their work."""
        return {rpc for rpc, code in self.codes if code == "OK"}


async def fuzz(
    target: Target, seed: int, messages: int, cpu_seconds: Callable[[], float] | None = None
) -> Findings:
    """Sends so many requests, one after the other.

    Args:
        cpu_seconds: what the server's process has spent so far, to find the dearest requests.
    """
    chance = random.Random(seed)
    requests = Requests(chance, target.values)
    findings = Findings()
    before = await target.their_record()
    names = sorted(set(METHODS) - _LEFT_OUT)
    for number in range(messages):
        if number % _RENEW_EVERY == 0:
            await target.renew_credentials()
        rpc = chance.choice(names)
        kind = chance.choice([*target.credentials, "operator", "operator", "none", "made up"])
        raw = requests.encoded(METHODS[rpc].input_type)
        spent = cpu_seconds() if cpu_seconds is not None else 0.0
        # Work goes on when its caller has gone, and must not ask gRPC about the call any more.
        gives_up = chance.random() < _SHARE_THAT_GIVE_UP
        seconds = chance.uniform(0.0005, 0.02) if gives_up else 10.0
        code, answer, said = await _send(target, rpc, kind, raw, seconds)
        if cpu_seconds is not None:
            most = findings.most_cpu.get(rpc, 0.0)
            findings.most_cpu[rpc] = max(most, cpu_seconds() - spent)
        findings.codes[rpc, code.name] += 1
        where = f"seed {seed}, request {number}: {rpc} by {kind}"
        if code in FAULTS or (code is grpc.StatusCode.CANCELLED and not gives_up):
            findings.faults.append(f"{where}: {code.name}: {said}")
        findings.faults += [f"{where}: {fault}" for fault in _faults(target, rpc, raw, answer)]
        told = [marker for marker in MARKERS if marker in said and marker.encode() not in raw]
        findings.faults += [f"{where}: an error tells {marker}" for marker in told]
    after = await target.their_record()
    for record in (before, after):
        for name in ("last_used_time", "last_used_address", "use_count"):
            record.ClearField(name)
    if before != after:
        findings.faults.append(f"seed {seed}: the other tenant's key was changed")
    return findings


async def _send(
    target: Target, rpc: str, kind: str, raw: bytes, deadline_seconds: float
) -> tuple[grpc.StatusCode, bytes, str]:
    """The status, the answer's bytes, and all that an error says."""
    credential: object = {"none": None, "made up": "kf_live_" + "0" * 40}.get(
        kind, target.credentials.get(kind)
    )
    try:
        answer = await target.client.call_raw(
            path_of(METHODS[rpc]), raw, credential=credential, deadline_seconds=deadline_seconds
        )
    except grpc.aio.AioRpcError as error:
        details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
        return error.code(), b"", f"{error.details()} {details!r}"
    except asyncio.CancelledError:
        # grpc.aio reports so that the server cancelled the call, whose deadline it notices first.
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return grpc.StatusCode.CANCELLED, b"", ""
    return grpc.StatusCode.OK, answer, ""


def _faults(target: Target, rpc: str, raw: bytes, answer: bytes) -> Iterator[str]:
    told = [one for one in MARKERS if one.encode() in answer and one.encode() not in raw]
    if told:
        yield f"the answer tells {told}"
    if path_of(METHODS[rpc]) in STREAMS or not answer:
        return
    response: Any = message_factory.GetMessageClass(METHODS[rpc].output_type).FromString(answer)
    try:
        request: Any = message_factory.GetMessageClass(METHODS[rpc].input_type).FromString(raw)
    except DecodeError:
        yield "a damaged request was answered"
        return
    asked = request.checks if rpc == "BatchCheckScope" else [request]
    answered = response.results if rpc == "BatchCheckScope" else [response]
    for question, one in zip(asked, answered, strict=True):
        presented = getattr(question, "api_key", None)
        if presented is not None and says_yes(one) and presented not in _may_pass(target):
            yield "a key was accepted that is revoked, another tenant's or made up"


def _may_pass(target: Target) -> set[str]:
    """Every key that was not revoked or made by another tenant. What the fuzzer itself has made
    is known only to the answers that it threw away."""
    return ({*target.values["api_key"]} | set(target.credentials.values())) - {
        *target.dead_keys,
        target.their_key,
    }


def says_yes(message: Message) -> bool:
    """Whether an answer lets a key pass, or a part of the answer does."""
    for descriptor, value in message.ListFields():
        if descriptor.name in _YES:
            return True
        kind = descriptor.message_type
        if kind is None or kind.GetOptions().map_entry:
            continue
        if any(map(says_yes, value if descriptor.is_repeated else [value])):
            return True
    return False
