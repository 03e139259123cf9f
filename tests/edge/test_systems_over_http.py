"""The five systems over HTTP, as their pages describe them. docs/systems.md has the pages'
sentences, and which test of these and others shows each."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from support.edge.authority import Authority
from support.edge.gateway import Gateway
from support.edge.http import Answer, bearer
from support.edge.sites import Site

SiteOf = Callable[[str], Site]


@pytest.fixture(scope="module")
def gateway(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    running = Gateway(
        tmp_path_factory.mktemp("gateway"),
        authority.port,
        {"KEYFENCE_GATEWAY_COOKIE": "session_token"},
    )
    yield running
    running.stop()


def outcome(answer: Answer) -> tuple[int, str | None]:
    """The status, and the code of an error."""
    if answer.status == 200:
        return 200, None
    body = answer.json()
    error = body["error"]
    return answer.status, error["code"] if isinstance(error, dict) else body["code"]


class TestQuicksrv:
    def test_scopes_are_hierarchical(self, site_of: SiteOf) -> None:
        site = site_of("quicksrv")
        requests = {
            "vps:read": ("GET", "/api/v1/instances"),
            "vps:write": ("POST", "/api/v1/instances/i-1/start"),
            "vps:create": ("POST", "/api/v1/instances"),
        }
        ladder = list(requests)
        for held, scope in enumerate(ladder):
            key = site.key(scope)
            for asked, (method, path) in enumerate(requests.values()):
                expected = 200 if asked <= held else 403
                assert site.with_key(key, method, path).status == expected, (scope, path)

    def test_a_403_names_the_missing_scope(self, site_of: SiteOf) -> None:
        site = site_of("quicksrv")
        key = site.key("vps:read")

        answer = site.with_key(key, "POST", "/api/v1/instances/i-1/start")

        assert answer.status == 403
        assert answer.json() == {
            "error": {
                "code": "forbidden",
                "message": "Forbidden: the key lacks the scope vps:write",
            }
        }
        assert site.upstream.take() == []

    def test_missing_malformed_revoked_and_expired_keys_get_a_401(self, site_of: SiteOf) -> None:
        site = site_of("quicksrv")
        expiring = site.key(
            "vps:read", expire_time=site.authority.clock.now() + timedelta(minutes=1)
        )
        revoked = site.key("vps:read")
        assert site.usual([bearer(expiring)]).status == 200
        assert site.usual([bearer(revoked)]).status == 200
        site.authority.clock.advance(timedelta(minutes=1))
        site.revoke(revoked)

        for headers in ([], [bearer("qsk_live_x")], [bearer(revoked)], [bearer(expiring)]):
            answer = site.usual(headers)
            assert answer.status == 401
            assert answer.json() == {"error": {"code": "unauthorized", "message": "Unauthorized"}}

    def test_whoami_reaches_the_api_with_identity_and_scopes(self, site_of: SiteOf) -> None:
        """The page's own route: its API answers from the headers that the edge has set."""
        site = site_of("quicksrv")
        key = site.key("vps:write")

        assert site.with_key(key, "GET", "/api/v1/whoami").status == 200

        (arrived,) = site.upstream.take()
        assert arrived.value("x-keyfence-scopes") == "vps:read vps:write"
        assert arrived.value("x-keyfence-account-id") == "acct_1"

    def test_whoami_over_rest_shows_identity_and_effective_scopes(
        self, site_of: SiteOf, gateway: Gateway
    ) -> None:
        key = site_of("quicksrv").key("vps:create")

        principal = gateway.call("GET", "/v1/whoami", token=key).json()["principal"]

        assert principal["grantedScopes"] == ["vps:create"]
        assert principal["effectiveScopes"] == ["vps:create", "vps:read", "vps:write"]
        assert re.fullmatch(r"qsk_live_\w{6}", principal["displayPrefix"])

    def test_revocation_takes_effect_immediately(self, site_of: SiteOf) -> None:
        site = site_of("quicksrv")
        key, other = site.usual_key(), site.usual_key()
        assert site.usual([bearer(key)]).status == 200

        site.revoke(key)

        assert site.usual([bearer(key)]).status == 401
        assert site.usual([bearer(other)]).status == 200


class TestSitequest:
    def test_the_errors_are_the_pages_to_the_letter(self, site_of: SiteOf) -> None:
        site = site_of("sitequest")
        key = site.key("vps:read")

        missing = site.send("GET", "/v1/servers")
        lacking = site.with_key(key, "POST", "/v1/servers")

        assert missing.status == 401
        assert missing.body.decode() == (
            '{"error": "Invalid or missing API key", "code": "UNAUTHORIZED", "status": 401}'
        )
        assert missing.header("content-type") == "application/json"
        assert lacking.status == 403
        assert lacking.json() == {
            "error": "API key lacks the required scope(s)",
            "code": "INSUFFICIENT_SCOPE",
            "status": 403,
        }

    def test_sixty_requests_a_minute_then_429(self, site_of: SiteOf) -> None:
        """Each request counts once, with its three headers; the next one is told when to
        come back, and is not told that its key is bad."""
        site = site_of("sitequest")
        key, other = site.key("vps:read"), site.key("vps:read")
        before = site.authority.clock.timestamp()

        answers = [site.with_key(key, "GET", "/v1/servers") for _ in range(61)]

        assert [answer.status for answer in answers] == [200] * 60 + [429]
        assert [answer.header("x-ratelimit-limit") for answer in answers] == ["60"] * 61
        remaining = [int(answer.header("x-ratelimit-remaining") or -1) for answer in answers]
        assert remaining == [*range(59, -1, -1), 0]
        after = site.authority.clock.timestamp()
        for answer in answers:
            assert before <= int(answer.header("x-ratelimit-reset") or 0) <= after + 61
        limited = answers[-1]
        assert limited.json() == {
            "error": "Too many requests",
            "code": "RATE_LIMITED",
            "status": 429,
        }
        assert 1 <= int(limited.header("retry-after") or 0) <= 61
        assert len(site.upstream.take()) == 60
        assert site.with_key(other, "GET", "/v1/servers").status == 200

    def test_a_denied_request_shows_the_limit_and_does_not_count(self, site_of: SiteOf) -> None:
        site = site_of("sitequest")
        key = site.key("vps:read")

        denied = [site.with_key(key, "POST", "/v1/servers") for _ in range(3)]
        passed = site.with_key(key, "GET", "/v1/servers")

        assert {answer.header("x-ratelimit-limit") for answer in denied} == {"60"}
        assert passed.header("x-ratelimit-remaining") == "59"

    def test_answers_about_a_good_key_have_the_headers_and_no_others(self, site_of: SiteOf) -> None:
        """They tell of a key's limit. A 401 is the same for every caller, so it has none, nor has
        what is answered before a key is looked at."""
        site = site_of("sitequest")
        key, revoked = site.key("vps:read"), site.key("vps:read")
        site.revoke(revoked)

        passed = site.with_key(key, "GET", "/v1/servers")
        lacking = site.with_key(key, "POST", "/v1/servers")
        others = {
            401: site.with_key(revoked, "GET", "/v1/servers"),
            404: site.with_key(key, "GET", "/v1/nowhere"),
            400: site.with_key(key, "GET", "/v1/servers;a"),
        }

        for answer in (passed, lacking):
            names = [name for name, _ in answer.headers if name.startswith("x-ratelimit-")]
            assert sorted(names) == [
                "x-ratelimit-limit",
                "x-ratelimit-remaining",
                "x-ratelimit-reset",
            ]
        for status, answer in others.items():
            assert answer.status == status
            assert not any(name.startswith("x-ratelimit-") for name, _ in answer.headers)

    def test_a_key_is_made_in_the_dashboard_with_name_expiry_and_scopes(
        self, site_of: SiteOf, gateway: Gateway
    ) -> None:
        site = site_of("sitequest")
        root, clock = site.authority.root_key, site.authority.clock
        end = (clock.now() + timedelta(days=30)).isoformat()
        asked = {
            "keyspace": "sitequest",
            "accountId": "acct_7",
            "displayName": "CI/CD",
            "expireTime": end,
            "scopes": ["domains:read", "vps:write"],
        }

        made = gateway.call("POST", "/v1/keys", asked, token=root).json()

        got = gateway.call("GET", f"/v1/keys/{made['key']['keyId']}", token=root).json()["key"]
        assert got["displayName"] == "CI/CD"
        assert datetime.fromisoformat(got["expireTime"]) == datetime.fromisoformat(end)
        assert got["grantedScopes"] == ["domains:read", "vps:write"]
        assert site.with_key(made["apiKey"], "POST", "/v1/servers/reboot").status == 200
        assert gateway.call("POST", "/v1/keys", {}, token=made["apiKey"]).status == 403

    def test_keys_are_rotated_and_unused_ones_show(self, site_of: SiteOf) -> None:
        site = site_of("sitequest")
        authority, operator = site.authority, site.authority.operator
        old, unused = (
            operator.create_key(keyspace="sitequest", account_id="acct_1", scopes=["vps:read"])
            for _ in range(2)
        )
        new = operator.rotate_key(old.key.key_id, overlap=timedelta(hours=1))
        for made in (old, new):
            assert site.with_key(made.api_key, "GET", "/v1/servers").status == 200

        for made in (old, new):
            used = authority.key_once_used(made.key.key_id, 1)
            assert (used.use_count, used.last_used_address) == (1, "127.0.0.1")
        idle = operator.get_key(unused.key.key_id)
        assert (idle.use_count, idle.last_used_time) == (0, None)
        operator.revoke_key(old.key.key_id)
        operator.revoke_key(unused.key.key_id)
        statuses = [
            site.with_key(made.api_key, "GET", "/v1/servers").status for made in (old, unused, new)
        ]
        assert statuses == [401, 401, 200]

    def test_full_access_read_only_and_custom(self, site_of: SiteOf) -> None:
        site = site_of("sitequest")
        requests = {
            "vps:read": ("GET", "/v1/servers"),
            "vps:write": ("POST", "/v1/servers/reboot"),
            "vps:manage": ("POST", "/v1/servers"),
            "domains:read": ("GET", "/v1/domains"),
            "domains:write": ("PUT", "/v1/domains"),
            "domains:manage": ("POST", "/v1/domains"),
        }
        keys = {
            site.key(preset="full-access"): set(requests),
            site.key(preset="read-only"): {"vps:read", "domains:read"},
            site.key("vps:write", "domains:manage"): {"vps:write", "domains:manage"},
        }
        for key, held in keys.items():
            assert re.fullmatch(r"sq_live_[0-9a-f]{64}", key)
            for scope, (method, path) in requests.items():
                expected = (200, None) if scope in held else (403, "INSUFFICIENT_SCOPE")
                assert outcome(site.with_key(key, method, path)) == expected, (held, scope)

    def test_a_route_may_need_several_scopes(self, site_of: SiteOf) -> None:
        site = site_of("sitequest")

        assert site.with_key(site.key(preset="read-only"), "GET", "/v1/overview").status == 200
        assert site.with_key(site.key("vps:read"), "GET", "/v1/overview").status == 403


EMAIL = "dev@example.com"
PASSWORD = "securepassword123"


@pytest.fixture(scope="module")
def quantumsafe_account(gateway: Gateway) -> str:
    """The page's own account, registered without a credential."""
    answer = gateway.call(
        "POST",
        "/v1/accounts:register",
        {
            "keyspace": "quantumsafe",
            "email": EMAIL,
            "password": PASSWORD,
            "displayName": "Alice Developer",
        },
    )
    assert answer.status == 200, answer.body
    account = answer.json()["account"]
    assert (account["email"], account["plan"]) == (EMAIL, "free")
    assert account["displayName"] == "Alice Developer"
    assert re.fullmatch(r"usr_\w+", account["accountId"])
    assert account["createTime"]
    return str(account["accountId"])


@pytest.fixture(scope="module")
def dashboard(gateway: Gateway, quantumsafe_account: str) -> str:
    """A session of that account."""
    credentials = {"keyspace": "quantumsafe", "email": EMAIL, "password": PASSWORD}
    answer = gateway.call("POST", "/v1/accounts:logIn", credentials)
    assert answer.status == 200, answer.body
    body = answer.json()
    assert body["account"]["accountId"] == quantumsafe_account
    begun, ends = (
        datetime.fromisoformat(body["session"][name]) for name in ("createTime", "expireTime")
    )
    assert ends - begun == timedelta(hours=24)
    assert body["account"]["email"] == EMAIL
    assert body["account"]["plan"] == "free"
    assert body["sessionToken"].startswith("eyJhbGciOiJFZERTQSIs")
    return str(body["sessionToken"])


@pytest.fixture(scope="module")
def xquik_session(authority: Authority, gateway: Gateway) -> str:
    """A dashboard's session. Operators make the accounts."""
    account = {"keyspace": "xquik", "email": "a@example.com", "password": "correct horse b"}
    made = gateway.call("POST", "/v1/accounts:register", account, token=authority.root_key)
    assert made.status == 200, made.body
    answer = gateway.call("POST", "/v1/accounts:logIn", account)
    assert answer.status == 200, answer.body
    return str(answer.json()["sessionToken"])


class TestQuantumSafe:
    def make(self, gateway: Gateway, token: str, kind: str, environment: str) -> Any:
        answer = gateway.call(
            "POST",
            "/v1/keys",
            {"displayName": f"{kind} {environment}", "keyType": kind, "environment": environment},
            token=token,
        )
        assert answer.status == 200, answer.body
        return answer.json()

    def test_a_password_has_at_least_twelve_characters(self, gateway: Gateway) -> None:
        account = {"keyspace": "quantumsafe", "email": "short@example.com"}
        eleven, twelve = (
            gateway.call("POST", "/v1/accounts:register", {**account, "password": password})
            for password in ("elevenchars", "twelve-chars")
        )

        assert (eleven.status, twelve.status) == (400, 200)
        assert "at least 12" in eleven.body.decode()

    def test_keys_of_both_types_and_environments(self, gateway: Gateway, dashboard: str) -> None:
        forms = {
            ("secret", "live"): r"qs_sec_live_sk_\w{32}",
            ("secret", "test"): r"qs_sec_test_sk_\w{32}",
            ("publishable", "live"): r"qs_pub_live_pk_\w{32}",
            ("publishable", "test"): r"qs_pub_test_pk_\w{32}",
        }
        for (kind, environment), form in forms.items():
            made = self.make(gateway, dashboard, kind, environment)
            assert re.fullmatch(form, made["apiKey"])
            assert re.fullmatch(r"key_\w+", made["key"]["keyId"])

    def test_the_upstream_is_told_type_and_environment(
        self, site_of: SiteOf, gateway: Gateway, dashboard: str
    ) -> None:
        site = site_of("quantumsafe")
        made = self.make(gateway, dashboard, "publishable", "test")

        assert site.with_key(made["apiKey"], "POST", "/v1/scan").status == 200

        (arrived,) = site.upstream.take()
        assert arrived.value("x-keyfence-key-type") == "publishable"
        assert arrived.value("x-keyfence-environment") == "test"

    def test_a_secret_key_makes_lists_and_deletes_and_a_publishable_one_does_not(
        self, gateway: Gateway, dashboard: str
    ) -> None:
        secret = self.make(gateway, dashboard, "secret", "live")
        publishable = self.make(gateway, dashboard, "publishable", "live")

        made = self.make(gateway, secret["apiKey"], "secret", "live")
        listed = gateway.call("GET", "/v1/keys?pageSize=1000", token=secret["apiKey"]).json()
        deleted = gateway.call("DELETE", f"/v1/keys/{made['key']['keyId']}", token=secret["apiKey"])

        assert made["key"]["keyId"] in [one["keyId"] for one in listed["keys"]]
        assert deleted.status == 200
        for method, path, body in (
            ("POST", "/v1/keys", {}),
            ("GET", "/v1/keys", None),
            ("DELETE", f"/v1/keys/{secret['key']['keyId']}", None),
        ):
            refused = gateway.call(method, path, body, token=publishable["apiKey"])
            assert refused.status == 403, (method, path)

    def test_a_list_shows_prefixes_and_last_use_and_never_a_key(
        self, site_of: SiteOf, authority: Authority, gateway: Gateway, dashboard: str
    ) -> None:
        made = self.make(gateway, dashboard, "secret", "live")
        assert site_of("quantumsafe").with_key(made["apiKey"], "POST", "/v1/scan").status == 200

        authority.key_once_used(made["key"]["keyId"], 1)
        answer = gateway.call("GET", "/v1/keys?pageSize=1000", token=dashboard)
        found = {one["keyId"]: one for one in answer.json()["keys"]}[made["key"]["keyId"]]

        assert found["displayPrefix"] == made["apiKey"][: len("qs_sec_live_sk_abc1")]
        assert found["lastUsedTime"] >= found["createTime"]
        assert found["lastUsedAddress"] == "127.0.0.1"
        assert made["apiKey"] not in json.dumps(answer.json())

    def test_the_answers_have_all_that_the_pages_have(
        self, gateway: Gateway, dashboard: str
    ) -> None:
        """The page's own JSON, made from Keyfence's by renaming."""
        made = self.make(gateway, dashboard, "secret", "live")
        listing = gateway.call("GET", "/v1/keys?state=KEY_STATE_ACTIVE", token=dashboard).json()
        listed = {one["keyId"]: one for one in listing["keys"]}[made["key"]["keyId"]]

        for key in (made["key"], listed):
            page = {
                "id": key["keyId"],
                "name": key["displayName"],
                "type": key["keyType"],
                "environment": key["environment"],
                "prefix": key["displayPrefix"] + "...",
            }
            assert page == {
                "id": made["key"]["keyId"],
                "name": "secret live",
                "type": "secret",
                "environment": "live",
                "prefix": made["apiKey"][:19] + "...",
            }
            assert datetime.fromisoformat(key["createTime"]).tzinfo is not None
        assert "apiKey" not in json.dumps(listing)

    def test_a_deleted_key_is_not_among_the_active_ones(
        self, gateway: Gateway, dashboard: str
    ) -> None:
        key_id = self.make(gateway, dashboard, "secret", "live")["key"]["keyId"]
        assert gateway.call("DELETE", f"/v1/keys/{key_id}", token=dashboard).status == 200

        listing = gateway.call(
            "GET", "/v1/keys?state=KEY_STATE_ACTIVE&pageSize=1000", token=dashboard
        ).json()

        assert key_id not in [one["keyId"] for one in listing["keys"]]

    def test_deletion_is_instant_and_irreversible_and_answers_auth_002(
        self, site_of: SiteOf, gateway: Gateway, dashboard: str
    ) -> None:
        site = site_of("quantumsafe")
        made = self.make(gateway, dashboard, "secret", "live")
        key, key_id = made["apiKey"], made["key"]["keyId"]
        assert site.with_key(key, "POST", "/v1/scan").status == 200

        assert gateway.call("DELETE", f"/v1/keys/{key_id}", token=key).status == 200

        answer = site.with_key(key, "POST", "/v1/scan")
        assert outcome(answer) == (401, "AUTH_002")
        assert answer.json()["meta"]["requestId"] == answer.header("x-request-id")
        assert gateway.call("GET", "/v1/keys", token=key).status == 401
        revived = gateway.call(
            "PATCH",
            f"/v1/keys/{key_id}",
            {"key": {"state": "KEY_STATE_ACTIVE"}, "updateMask": "state"},
            token=dashboard,
        )
        assert revived.status == 400
        assert site.with_key(key, "POST", "/v1/scan").status == 401

    def test_a_session_is_for_the_dashboard_and_not_for_the_api(
        self, site_of: SiteOf, dashboard: str
    ) -> None:
        """ "For API access, use API keys instead." """
        site = site_of("quantumsafe")

        assert outcome(site.with_key(dashboard, "POST", "/v1/scan")) == (401, "AUTH_002")
        assert site.upstream.take() == []


class TestXquik:
    def cookie(self, gateway: Gateway, session: str) -> list[tuple[str, str]]:
        origin = ("Origin", f"http://127.0.0.1:{gateway.port}")
        return [("Cookie", f"session_token={session}"), origin]

    def test_first_key_by_cookie_further_ones_by_key(
        self, site_of: SiteOf, gateway: Gateway, xquik_session: str
    ) -> None:
        """Automated rotation: make a key with the old one, switch, revoke the old one."""
        site = site_of("xquik")
        first = gateway.call(
            "POST", "/v1/keys", {}, headers=self.cookie(gateway, xquik_session)
        ).json()
        second = gateway.call(
            "POST",
            "/v1/keys",
            {"displayName": "Production"},
            headers=[("x-api-key", first["apiKey"])],
        ).json()

        assert first["key"]["displayName"] == "Default"
        assert second["key"]["displayName"] == "Production"
        assert second["key"]["accountId"] == first["key"]["accountId"]
        for made in (first, second):
            assert re.fullmatch(r"xq_\w{32}", made["apiKey"])
            assert made["key"]["displayPrefix"] == made["apiKey"][:8]
            assert site.with_key(made["apiKey"], "GET", "/api/v1/account").status == 200
        gone = gateway.call(
            "DELETE",
            f"/v1/keys/{first['key']['keyId']}",
            headers=[("x-api-key", second["apiKey"])],
        )
        assert gone.status == 200
        assert site.with_key(first["apiKey"], "GET", "/api/v1/account").status == 401
        assert site.with_key(second["apiKey"], "GET", "/api/v1/account").status == 200

    def test_a_key_can_rotate_itself_with_or_without_an_overlap(
        self, site_of: SiteOf, gateway: Gateway
    ) -> None:
        site = site_of("xquik")
        for overlap, still_there in ((None, 401), ("600s", 200)):
            key = site.key()
            key_id = site.authority.key_id_of(key, "xquik")
            body = {"overlap": overlap} if overlap else {}

            rotated = gateway.call("POST", f"/v1/keys/{key_id}:rotate", body, token=key).json()

            assert site.with_key(rotated["apiKey"], "GET", "/api/v1/account").status == 200
            assert site.with_key(key, "GET", "/api/v1/account").status == still_there

    def test_all_three_places_of_the_page_make_keys_of_one_account(
        self, gateway: Gateway, xquik_session: str
    ) -> None:
        """The cookie with a session, the header with a key, the bearer token with either."""
        account = gateway.call("GET", "/v1/account", token=xquik_session).json()["account"]
        key = gateway.call("POST", "/v1/keys", {}, token=xquik_session).json()["apiKey"]

        for headers in (
            self.cookie(gateway, xquik_session),
            [("x-api-key", key)],
            [bearer(key)],
            [bearer(xquik_session)],
        ):
            answer = gateway.call("POST", "/v1/keys", {"displayName": "More"}, headers=headers)
            assert answer.status == 200, headers[0][0]
            assert answer.json()["key"]["accountId"] == account["accountId"]

    def test_the_answer_has_all_that_the_pages_has(
        self, gateway: Gateway, xquik_session: str
    ) -> None:
        """ "id", "fullKey", "prefix", "name" and "createdAt", by Keyfence's names."""
        answer = gateway.call(
            "POST",
            "/v1/keys",
            {"displayName": "Production"},
            headers=self.cookie(gateway, xquik_session),
        )

        assert answer.status == 200
        made = answer.json()
        assert made["apiKey"].startswith("xq_")
        assert made["key"]["displayPrefix"] == made["apiKey"][:8]
        assert made["key"]["displayName"] == "Production"
        assert re.fullmatch(r"key_\w+", made["key"]["keyId"])
        assert datetime.fromisoformat(made["key"]["createTime"]).tzinfo is not None

    def test_a_token_of_an_oauth_server_is_none(self, gateway: Gateway) -> None:
        for token in ("ya29.a0AfH6SMBx", "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmVk"):
            assert gateway.call("POST", "/v1/keys", {}, token=token).status == 401

    def test_the_api_itself_takes_keys_and_no_session(
        self, site_of: SiteOf, xquik_session: str
    ) -> None:
        site = site_of("xquik")
        key = site.key()

        for header in (("x-api-key", key), bearer(key)):
            assert site.usual([header]).status == 200, header[0]
        for header in (bearer(xquik_session), ("Cookie", f"session_token={xquik_session}")):
            assert site.usual([header]).status == 401, header[0]


class TestSupascale:
    RESOURCES = ("projects", "backups", "tasks", "cloud-storage", "system")

    def test_none_read_and_write_for_each_resource(self, site_of: SiteOf) -> None:
        site = site_of("supascale")
        for resource in self.RESOURCES:
            path = f"/api/v1/{resource}"
            reader, writer = site.key(f"{resource}:read"), site.key(f"{resource}:write")
            others = [f"{one}:write" for one in self.RESOURCES if one != resource]
            stranger = site.key(*others)
            assert site.with_key(reader, "GET", path).status == 200
            assert outcome(site.with_key(reader, "POST", path)) == (403, "permission_denied")
            assert site.with_key(writer, "GET", path).status == 200
            assert site.with_key(writer, "POST", path).status == 200
            assert site.with_key(stranger, "GET", path).status == 403
            assert site.with_key(stranger, "POST", path).status == 403

    def test_a_key_is_active_immediately(self, site_of: SiteOf) -> None:
        site = site_of("supascale")

        for _ in range(5):
            assert site.usual([bearer(site.usual_key())]).status == 200

    def test_extra_spaces_and_missing_prefixes_are_authentication_errors(
        self, site_of: SiteOf
    ) -> None:
        """The page's own troubleshooting list."""
        site = site_of("supascale")
        key = site.usual_key()

        for value in (
            f"Bearer {key[:12]} {key[12:]}",
            f"Bearer {key.removeprefix('supascale_')}",
            f"Bearer{key}",
            f"Token {key}",
        ):
            assert outcome(site.usual([("Authorization", value)])) == (401, "invalid_api_key")

    def test_a_key_is_made_under_settings_and_listed_with_all_that_it_may(
        self, site_of: SiteOf, gateway: Gateway
    ) -> None:
        """ "Name, Creation date, Expiration date (if set), Permissions summary"."""
        site = site_of("supascale")
        root, clock = site.authority.root_key, site.authority.clock
        begin, end = clock.now(), clock.now() + timedelta(days=30)
        asked = {
            "keyspace": "supascale",
            "accountId": "acct_settings",
            "displayName": "Backup Script",
            "expireTime": end.isoformat(),
            "scopes": ["backups:write", "cloud-storage:read"],
        }
        made = gateway.call("POST", "/v1/keys", asked, token=root).json()

        path = "/v1/keys?keyspace=supascale&accountId=acct_settings"
        (listed,) = gateway.call("GET", path, token=root).json()["keys"]

        assert listed["displayName"] == "Backup Script"
        assert begin <= datetime.fromisoformat(listed["createTime"]) <= clock.now()
        assert datetime.fromisoformat(listed["expireTime"]) == end
        assert listed["grantedScopes"] == ["backups:write", "cloud-storage:read"]
        assert made["apiKey"] not in json.dumps(listed)
        assert gateway.call("POST", "/v1/keys", {}, token=made["apiKey"]).status == 403

    def test_each_access_is_in_the_log_of_the_edge_and_counted_at_the_key(
        self, site_of: SiteOf
    ) -> None:
        site = site_of("supascale")
        authority = site.authority
        made = authority.operator.create_key(
            keyspace="supascale", account_id="acct_1", scopes=["projects:read"]
        )
        answers = [site.with_key(made.api_key, "GET", "/api/v1/projects") for _ in range(3)]

        used = authority.key_once_used(made.key.key_id, 3)
        days = authority.operator.get_key_usage(made.key.key_id)
        last = answers[-1].header("x-request-id") or "-"
        site.envoy.wait_for_output(last)
        lines = [json.loads(one) for one in site.envoy.output.splitlines() if one.startswith("{")]

        assert (used.use_count, used.last_used_address) == (3, "127.0.0.1")
        assert sum(day.use_count for day in days) == 3
        logged = [line for line in lines if line["key_id"] == made.key.key_id]
        assert [line["request_id"] for line in logged] == [
            answer.header("x-request-id") for answer in answers
        ]
        assert {(line["path"], line["reason"]) for line in logged} == {("/api/v1/projects", "OK")}

    def test_failed_attempts_are_in_the_activity_log(self, site_of: SiteOf) -> None:
        site = site_of("supascale")
        key = site.key("projects:read")
        key_id = site.authority.key_id_of(key, "supascale")
        lacking = site.with_key(key, "POST", "/api/v1/projects")
        site.revoke(key)
        revoked = site.with_key(key, "GET", "/api/v1/projects")

        attempts = site.authority.denials_of(key_id, 2)

        assert {(one.details["reason"], one.request_id) for one in attempts} == {
            ("SCOPE_MISSING", lacking.header("x-request-id")),
            ("KEY_REVOKED", revoked.header("x-request-id")),
        }
        assert {one.details["address"] for one in attempts} == {"127.0.0.1"}
        assert all(key not in str(one) for one in attempts)
