"""Every holder gives the same answer as the store, once a change has returned.

One table of kinds of keys, of changes to them (`kinds`) and of questions (`questions`) is put to
every holder.
"""

from __future__ import annotations

import pytest

from fence.parity.conftest import Everyone
from fence.parity.kinds import KINDS, MUTATIONS, happens_to


@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("kind", KINDS)
async def test_everyone_answers_as_the_store_does_after_each_change(
    everyone: Everyone, kind: str
) -> None:
    """A cache that works something out in another way than the server, that is not told
    of something, or that is given too little to know it by, would show here."""
    subject = await KINDS[kind](everyone.operator)
    await everyone.warm(subject.api_key)
    head = await everyone.head()
    # Asked twice: to fill what memory there is, and from memory.
    assert await everyone.disagreements(subject.api_key, head) == []
    assert await everyone.disagreements(subject.api_key, head) == []
    for name, change in MUTATIONS.items():
        if happens_to(subject, name):
            await change(everyone.operator, subject)
            disagreements = await everyone.disagreements(subject.api_key, await everyone.head())
            assert disagreements == [], name
