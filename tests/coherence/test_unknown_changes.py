"""A sidecar is told of a change that it cannot read, as by a server of a later version."""

from __future__ import annotations

import pytest

from application.authority import Authority
from keyfence.v1 import replication_service_pb2 as messages
from keyfence_server.adapters.upstream.following import Following
from keyfence_server.coherence.downstream import StreamEnded
from keyfence_server.domain.decisions import Question


async def test_a_sidecar_and_the_holders_behind_it_forget_everything(authority: Authority) -> None:
    """Otherwise what has changed would be remembered, and the change acknowledged."""
    made = await authority.make(scopes=["vps:read"])
    await authority.check(made)
    question = Question(made.plaintext.reveal())
    assert authority.checks.answer_from_memory(authority.root, question) is not None
    behind = authority.hub.open("a holder behind it")
    following = Following(authority.revisions, authority.hub, "sidecar")
    told = messages.RevisionChanges(revision=authority.cache.revision + 1)
    told.changes.add(in_keyspace="acme")

    following.apply(told)

    assert authority.checks.answer_from_memory(authority.root, question) is None
    assert following.acknowledged() == told.revision
    with pytest.raises(StreamEnded):
        await behind.next_message()
