"""What is asked about a key, and an answer as far as everyone must agree on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from keyfence import AsyncClient, CallFailed
from keyfence.results import Authentication, CheckResult, FailedCheck, ScopeCheck

Answer: TypeAlias = Mapping[str, object]


@dataclass(frozen=True)
class Question:
    """A question about any key.

    Attributes:
        scopes: those of a `CheckScope`; None for an `Authenticate`.
        more: its other fields. The revision is how far it is ahead of the last change.
    """

    scopes: tuple[str, ...] | None
    more: Mapping[str, Any]

    def fields(self, head: int) -> dict[str, Any]:
        """The other fields, of a question that is asked when this is the last change."""
        ahead = self.more.get("at_least_revision")
        return {**self.more, **({} if ahead is None else {"at_least_revision": head + ahead})}

    def check(self, api_key: str, head: int) -> ScopeCheck:
        """As one of a batch."""
        assert self.scopes is not None
        return ScopeCheck(api_key=api_key, required_scopes=self.scopes, **self.fields(head))


def whose(**more: Any) -> Question:
    """An `Authenticate`."""
    return Question(None, more)


def may(*scopes: str, **more: Any) -> Question:
    """A `CheckScope`."""
    return Question(scopes, more)


QUESTIONS: Final[Mapping[str, Question]] = {
    "whose": whose(),
    "whose, in its keyspace": whose(keyspace="main"),
    "whose, in another": whose(keyspace="counted"),
    "whose, in one out of reach": whose(keyspace="foreign"),
    "whose, in one that is not": whose(keyspace="nowhere"),
    "whose, in the operators'": whose(keyspace="system"),
    "whose, from inside": whose(client_address="10.1.2.3"),
    "whose, from inside, mapped": whose(client_address="::ffff:10.1.2.3"),
    "whose, from outside": whose(client_address="11.1.2.3"),
    "whose, from no address": whose(client_address="10.1.2"),
    "whose, from a zone": whose(client_address="fe80::1%eth0"),
    "whose, now": whose(at_least_revision=0),
    "whose, later": whose(at_least_revision=1_000),
    "whose, for nothing": whose(cost=0),
    "read": may("vps:read"),
    "write": may("vps:write"),
    "create": may("vps:create"),
    "two": may("vps:create", "vps:read", "vps:create"),
    "unregistered": may("vps:reed"),
    "one of them unregistered": may("vps:create", "vps:reed"),
    "of the operators": may("keys:read"),
    "wildcard": may("*"),
    "nothing": may(),
    "read, in its keyspace": may("vps:read", keyspace="main"),
    "read, in another": may("vps:read", keyspace="counted"),
    "read, in one out of reach": may("vps:read", keyspace="foreign"),
    "unregistered, in its keyspace": may("vps:reed", keyspace="main"),
    "read, from inside": may("vps:read", client_address="10.1.2.3"),
    "create, from outside": may("vps:create", client_address="11.1.2.3"),
    "read, from no address": may("vps:read", client_address="10.1.2"),
    "read, now": may("vps:read", at_least_revision=0),
    "read, later": may("vps:read", at_least_revision=1_000),
}


async def ask(client: AsyncClient, api_key: str, question: Question, head: int) -> Answer:
    """What a client is answered."""
    try:
        if question.scopes is None:
            return of_authentication(await client.authenticate(api_key, **question.fields(head)))
        return of_check(
            await client.check_scope(api_key, *question.scopes, **question.fields(head))
        )
    except CallFailed as error:
        return of_error(error.reason or error.status)


async def ask_in_batch(
    client: AsyncClient, api_key: str, questions: Mapping[str, Question], head: int
) -> dict[str, Answer]:
    """What a client is answered that asks all of these at once."""
    answers = await client.batch_check_scope(
        question.check(api_key, head) for question in questions.values()
    )
    return {name: of_check(one) for name, one in zip(questions, answers, strict=True)}


def of_authentication(found: Authentication) -> Answer:
    """What everyone must agree on."""
    return {
        "passes": found.authenticated,
        "reason": found.reason.value,
        "principal": found.principal,
        "is_counted": found.rate_limit is not None,
    }


def of_check(found: CheckResult | FailedCheck) -> Answer:
    """What everyone must agree on."""
    if isinstance(found, FailedCheck):
        return of_error(found.error.reason or found.error.status)
    return {
        "passes": found.allowed,
        "reason": found.reason.value,
        "principal": found.principal,
        "missing": found.missing_scopes,
        "is_counted": found.rate_limit is not None,
    }


def of_error(reason: str) -> Answer:
    """An error, by its reason: what it says at length is for people."""
    return {"error": reason}
