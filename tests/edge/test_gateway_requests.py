"""A REST request with an unknown field, or with one field twice, is refused and changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from keyfence.results import Key
from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Answer, bearer


def refusal(answer: Answer) -> str:
    """What is said of a request that is refused as malformed."""
    assert answer.status == 400, answer
    body = answer.json()
    assert body["code"] == 3
    message: str = body["message"]
    return message


class TestADeclaration:
    """Of a keyspace: what it leaves out is taken away, so nothing may get lost."""

    @pytest.fixture(autouse=True)
    def _restore(self, authority: Authority) -> Iterator[None]:
        yield
        authority.apply("sitequest")

    @pytest.fixture
    def declared(self, gateway: Gateway, authority: Authority) -> dict[str, Any]:
        """What the keyspace declares, as REST shows it."""
        answer = gateway.call("GET", "/v1/keyspaces/sitequest", token=authority.root_key)
        keyspace: dict[str, Any] = answer.json()["keyspace"]
        assert keyspace["scopes"]
        return keyspace

    def put(self, gateway: Gateway, authority: Authority, body: Any, query: str = "") -> Answer:
        path = f"/v1/keyspaces/sitequest{query}"
        return gateway.call("PUT", path, body, token=authority.root_key)

    def test_what_was_read_can_be_put_back(
        self, gateway: Gateway, authority: Authority, declared: dict[str, Any]
    ) -> None:
        answer = self.put(gateway, authority, declared)

        assert answer.status == 200
        assert answer.json()["diff"]["changedFields"] == []
        assert answer.json()["keyspace"] == declared

    def test_a_field_that_is_misspelt_misplaced_or_twice_is_refused(
        self, gateway: Gateway, authority: Authority, declared: dict[str, Any]
    ) -> None:
        for body, what in (
            ({"keyspace": declared}, '"keyspace"'),
            ({**declared, "validateOnly": True}, '"validateOnly"'),
            ({**declared, "scope": declared["scopes"]}, '"scope"'),
            ({**declared, "limits": {"rate": 1}}, '"limits.rate"'),
            ({**declared, "scopes": [{"name": "a"}, {"nam": "b"}]}, '"scopes.nam"'),
            ({**declared, "name": "xquik"}, '"name" differs from the path'),
        ):
            assert what in refusal(self.put(gateway, authority, body)), what
        misspelt = self.put(gateway, authority, {"displayName": "x"}, "?validateonly=true")
        assert "validateonly" in refusal(misspelt)
        assert self.put(gateway, authority, declared).json()["diff"]["changedFields"] == []

    @pytest.mark.parametrize("body", [None, {}, {"name": "sitequest"}], ids=repr)
    def test_one_that_was_lost_on_its_way_takes_nothing_away(
        self, gateway: Gateway, authority: Authority, declared: dict[str, Any], body: Any
    ) -> None:
        answer = self.put(gateway, authority, body)

        assert "has only the name" in refusal(answer)
        assert answer.json()["details"][0]["reason"] == "INVALID_KEYSPACE"
        assert self.put(gateway, authority, declared).json()["diff"]["changedFields"] == []

    def test_what_is_only_tried_out_is_not_applied(
        self, gateway: Gateway, authority: Authority, declared: dict[str, Any]
    ) -> None:
        changed = {**declared, "displayName": "Changed"}

        tried = self.put(gateway, authority, changed, "?validateOnly=true")

        assert tried.json()["diff"]["changedFields"] == ["display_name"]
        answer = gateway.call("GET", "/v1/keyspaces/sitequest", token=authority.root_key)
        assert answer.json()["keyspace"] == declared


def test_a_key_is_not_made_without_what_was_asked_for(gateway: Gateway, account_key: str) -> None:
    """Such a key would never expire."""
    body = {"expireTimes": "2020-01-01T00:00:00Z", "bogus": 3}

    assert '"expireTimes"' in refusal(gateway.call("POST", "/v1/keys", body, token=account_key))


def test_unknown_fields_are_refused_wherever_they_are(gateway: Gateway, account_key: str) -> None:
    for method, path, body, field in (
        ("POST", "/v1/keys", {"rateLimit": {"windows": "1s"}}, "rateLimit.windows"),
        ("PATCH", "/v1/keys/key_x", {"key": {"name": "a"}, "updateMask": "name"}, "key.name"),
        ("POST", "/v1/keys/key_x:rotate", {"overlaps": "60s"}, "overlaps"),
        # What is a query parameter there.
        ("DELETE", "/v1/keys/key_x", {"comment": "leaked"}, "comment"),
        ("GET", "/v1/keys", {"state": "KEY_STATE_REVOKED"}, "state"),
        # A path in other words is the same path.
        ("POST", "/v1/%6beys", {"bogus": 1}, "bogus"),
        ("POST", "/v1/accounts:logIn", {"mail": "a@example.com"}, "mail"),
    ):
        message = refusal(gateway.call(method, path, body, token=account_key))
        assert f'"{field}"' in message, path


def test_known_fields_are_taken_by_either_name_and_maps_hold_any(
    gateway: Gateway, account_key: str
) -> None:
    for body in (
        {"displayName": "a", "labels": {"any": "b", "displayNames": "c"}},
        {"display_name": "a", "allowedAddresses": ["127.0.0.1", "::1"]},
        {"displayName": 'a "\\" \u00e4 \U0001f511 }{', "rateLimit": None},
    ):
        answer = gateway.call("POST", "/v1/keys", body, token=account_key)
        assert answer.status == 200, answer.body
        assert answer.json()["key"]["displayName"] == body.get("displayName", "a")


@pytest.mark.parametrize(
    "body",
    [
        "[]",
        "1",
        '"displayName"',
        "null",
        "{",
        '{"displayName"',
        '{"displayName": "a',
        '{"displayName": "a"',
        '{"displayName": "a"}}',
        '{"displayName": "a"} {"bogus": 1}',
        '{"displayName": "a",}',
        '{"displayName": "a" "scopes": []}',
        '{"displayName": "a\n"}',
        "{displayName: 'a'}",
        "{'displayName': 'a', \"bogus\": 1}",
        '{"displayName": \'a", "bogus": "\'}',
        '{"displayName": "a\\", "bogus": 1}',
        '{"displayName": "a", /* "bogus": 1 */}',
        '{"displayName": "a", "displayName": "b"}',
        '{"display\\u004eame": "a"}',
        '{"displayName": truer}',
        '{"scopes": ["a"]]}',
        '{"scopes": ' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"labels": ' + '{"a":' * 5_000,
        "\ufeff{}",
        "\0",
        "\x80\xff",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_what_could_be_read_in_two_ways_is_refused(
    gateway: Gateway, account_key: str, body: str
) -> None:
    """Envoy's own reading of JSON takes more than JSON, and could find other fields."""
    headers = [bearer(account_key), ("content-type", "application/json")]

    assert refusal(gateway.send("POST", "/v1/keys", headers, body.encode("latin-1", "replace")))


@pytest.fixture
def two_keys(authority: Authority) -> tuple[Key, Key]:
    """Two keys of the account that `account_key` belongs to."""
    one, other = (
        authority.operator.create_key(keyspace="xquik", account_id="acct_1").key for _ in range(2)
    )
    return one, other


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("DELETE", "/v1/keys/{one}?keyId={other}", None),
        ("DELETE", "/v1/keys/{one}?key_id={other}", None),
        ("DELETE", "/v1/keys/{one}?comment=leaked&keyId={other}", None),
        ("DELETE", "/v1/keys/{one}?keyId={one}", None),
        ("GET", "/v1/keys/{one}?keyId={other}", None),
        ("GET", "/v1/keys/{one}/usage?key_id={other}", None),
        ("POST", "/v1/keys/{one}:rotate?keyId={other}", {}),
        ("POST", "/v1/keys/{one}:rotate?overlap=60s", {}),
        ("POST", "/v1/keys/{one}:rotate", {"keyId": "{other}"}),
        ("POST", "/v1/keys/{one}:rotate", {"key_id": "{other}"}),
        ("PATCH", "/v1/keys/{one}?key.keyId={other}", {"key": {"displayName": "x"}}),
        ("PATCH", "/v1/keys/{one}", {"key": {"displayName": "x", "keyId": "{other}"}}),
        ("PATCH", "/v1/keys/{one}", {"key": {"displayName": "x", "key_id": "{other}"}}),
    ],
)
def test_a_variable_of_the_path_comes_from_the_path_alone(
    gateway: Gateway,
    authority: Authority,
    account_key: str,
    two_keys: tuple[Key, Key],
    method: str,
    path: str,
    body: Any,
) -> None:
    one, other = two_keys
    ids = {"{one}": one.key_id, "{other}": other.key_id}
    text = json.dumps(body)
    for name, key_id in ids.items():
        path, text = path.replace(name, key_id), text.replace(name, key_id)
    if method == "PATCH":
        text = text[:-1] + ', "updateMask": "displayName"}'

    refusal(gateway.call(method, path, json.loads(text), token=account_key))

    for key in two_keys:
        assert authority.operator.get_key(key.key_id) == key


def test_nor_does_a_query_replace_the_keyspace_of_a_declaration(
    gateway: Gateway, authority: Authority
) -> None:
    path, token = "/v1/keyspaces/never_applied", authority.root_key
    for query in ("keyspace.name=xquik", "keyspace.displayName=x", "keyspace.display_name=x"):
        answer = gateway.call(
            "PUT", f"{path}?{query}", {"displayName": "a"}, token=authority.root_key
        )
        assert "not in the query" in refusal(answer)
    assert gateway.call("GET", path, token=token).status == 404


@pytest.mark.parametrize(
    "body",
    [
        '{"allowedAddresses": ["0.0.0.0/0"], "allowed_addresses": ["10.0.0.1/32"]}',
        '{"accountId": "acct_1", "account_id": "acct_2"}',
        '{"expireTime": "2030-01-01T00:00:00Z", "expire_time": null}',
        '{"rateLimit": {"window": "1s", "requests": 1, "requests": 2}}',
        '{"labels": {"a": "1", "a": "2"}}',
        '{"labels": {"a": "1", "\\u0061": "2"}}',
        '{"labels": {"\u00e4\U0001f511": "1", "\\u00e4\\uD83D\\uDD11": "2"}}',
        '{"labels": {"/": "1", "\\/": "2"}}',
    ],
)
def test_a_field_comes_once_under_one_spelling(
    gateway: Gateway, account_key: str, body: str
) -> None:
    headers = [bearer(account_key), ("content-type", "application/json")]

    assert "comes twice" in refusal(gateway.send("POST", "/v1/keys", headers, body.encode()))


def test_names_that_only_look_alike_are_different(gateway: Gateway, account_key: str) -> None:
    body = r'{"labels": {"u0061": "1", "a": "2", "A": "3", "\u0062": "4"}}'
    headers = [bearer(account_key), ("content-type", "application/json")]

    answer = gateway.send("POST", "/v1/keys", headers, body.encode())

    assert answer.json()["key"]["labels"] == {"u0061": "1", "a": "2", "A": "3", "b": "4"}


@pytest.mark.parametrize(
    ("query", "what"),
    [
        ("pageSize=1&pageSize=2", "twice"),
        ("pageSize=1&page_size=2", "twice"),
        ("pagesize=1", "no query parameter"),
        ("pageSize.value=1", "no query parameter"),
        ("page%53ize=1", "no query parameter"),
        ("pageSize", "no value"),
        ("bogus", "no value"),
        ("=1", "no query parameter"),
        (".=1", "no query parameter"),
    ],
)
def test_a_query_parameter_comes_once_and_is_known(
    gateway: Gateway, account_key: str, query: str, what: str
) -> None:
    """Envoy ignores a parameter without a value, and takes the last of two."""
    assert what in refusal(gateway.call("GET", f"/v1/keys?{query}", token=account_key))
    for fine in ("pageSize=1", "page_size=1&", "", "&"):
        assert gateway.call("GET", f"/v1/keys?{fine}", token=account_key).status == 200
