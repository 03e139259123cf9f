"""What docs/http.md, edge.md and gateway.md list is what the code has."""

from __future__ import annotations

from typing import Any

import yaml

from docs.pages import blocks, code, read, rows, section
from keyfence_server.domain.documents import declaration_from_document
from keyfence_server.domain.http_answers import Denial
from keyfence_server.domain.keyspaces import compile_keyspace
from keyfence_server.domain.reasons import Reason
from keyfence_server.gateway.settings import PREFIX, GatewaySettings
from keyfence_server.rpc.envoy import routes

HTTP = read("docs/http.md")


def compiled(**http: Any) -> Any:
    return compile_keyspace(declaration_from_document({"keyspace": "acme", "http": http}))


def test_the_example_of_the_section_can_be_applied() -> None:
    (text,) = blocks(HTTP, "yaml")
    document = yaml.safe_load(text)

    assert compile_keyspace(declaration_from_document(document)).name == "acme"


def test_every_cause_is_listed_and_no_other() -> None:
    causes = section(HTTP, "## `answers`")
    for reason in Reason:
        if reason is not Reason.OK:
            assert f"`{reason.name.lower()}`" in causes, reason


def test_every_listed_default_is_the_default() -> None:
    rules = compiled().http
    for row in rows(section(HTTP, "## `answers`")):
        cause = code(row[0])[0] if row[0] else ""
        if cause in {"scope_missing", "rate_limited", "unauthenticated"} and len(row) == 3:
            reason = Reason.KEY_EXPIRED if cause == "unauthenticated" else Reason[cause.upper()]
            answer = rules.answer(Denial(reason=reason))
            assert str(answer.status) in row[2], row
            assert code(row[2])[0] in answer.body, row


def test_every_placeholder_can_be_used_where_it_is_said() -> None:
    table = rows(section(HTTP, "## `body` and placeholders"))
    for row in table:
        for placeholder in code(row[0]):
            everywhere = "everywhere" in row[2]
            if everywhere or "bodies" in row[2]:
                compiled(body={"value": placeholder})
            if everywhere or "messages" in row[2]:
                compiled(answers={"rate_limited": {"message": placeholder}})
            if everywhere or row[2] == "challenges":
                compiled(answers={"rate_limited": {"www_authenticate": placeholder}})


def test_every_context_extension_is_listed() -> None:
    listed = {code(row[0])[0] for row in rows(section(read("docs/edge.md"), "## Setting it up"))}

    assert listed == {
        routes.KEYSPACE,
        routes.REQUIRED_SCOPES,
        routes.AUTHENTICATE_ONLY,
        routes.COST,
    }


def test_every_setting_of_the_gateway_is_listed_with_its_default() -> None:
    listed = {
        name: row[2]
        for row in rows(section(read("docs/gateway.md"), "## Settings"))
        for name in code(row[0])
    }
    for name, field in GatewaySettings.model_fields.items():
        default = listed[PREFIX + name.upper()]
        if field.default in {None, ()}:
            continue
        shown = str(field.default).lower() if field.default is False else str(field.default)
        assert default == shown, name
    assert len(listed) == len(GatewaySettings.model_fields)
