"""Supascale's page, from its first command to its last, against the running application."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from products.pages import SECONDS, Page
from products.running import Applications, Product
from support.edge.http import Answer

PAGE: Final = Page("supascale")

LIST_PROJECTS = PAGE.command(0)
PLACEHOLDER: Final = "supascale_your_api_key"

RESOURCES: Final = ("projects", "backups", "tasks", "cloud-storage", "system")
INVALID: Final = {"error": "Invalid API key", "code": "invalid_api_key"}
DENIED: Final = {"error": "Permission denied", "code": "permission_denied"}


@pytest.fixture(scope="module")
def product(applications: Applications) -> Product:
    return applications.product("supascale")


def new_key(product: Product, *permissions: str, **fields: Any) -> dict[str, Any]:
    wanted = {"name": "CI/CD Pipeline", "permissions": permissions, **fields}
    made = product.panel("POST", "/settings/api-keys", wanted)
    assert made.status == 201, made.body
    data: dict[str, Any] = made.json()
    return data


def projects(product: Product, key: str) -> Answer:
    return product.run(LIST_PROJECTS, {PLACEHOLDER: key})


def held_by(product: Product, key: str) -> dict[str, set[str]]:
    """What a key may in each resource, by trying everything."""
    held: dict[str, set[str]] = {}
    for resource in RESOURCES:
        path = f"/api/v1/{resource}"
        thing = product.call("POST", path, {"name": "a"}, key=key)
        own = f"{path}/{thing.json().get('id', '0')}"
        answers = {
            "read": [product.call("GET", path, key=key)],
            "write": [
                thing,
                product.call("PUT", own, {"name": "b"}, key=key),
                product.call("DELETE", own, key=key),
            ],
        }
        for level, got in answers.items():
            if all(answer.status < 300 for answer in got):
                held.setdefault(resource, set()).add(level)
            else:
                assert {(one.status, tuple(one.json().items())) for one in got} == {
                    (403, tuple(DENIED.items()))
                }
    return held


@PAGE.says(
    "Include the API key in the Authorization header:",
    "supascale_prefix - The key is active immediately - no delay",
)
def test_the_command_lists_projects_at_once(product: Product) -> None:
    key = new_key(product, "projects:write")["key"]
    made = product.call("POST", "/api/v1/projects", {"name": "shop"}, key=key).json()
    answer = projects(product, key)
    assert (answer.status, made in answer.json()) == (200, True)
    assert answer.header("content-type") == "application/json"


@PAGE.says(
    "Or in JavaScript:",
    "const response = await fetch('/api/v1/projects', {",
    "headers: {",
    "'Authorization': `Bearer ${apiKey}`",
    "}",
    "});",
)
def test_the_request_in_javascript_lists_projects(product: Product) -> None:
    key = new_key(product, "projects:read")["key"]
    (path,) = re.findall(r"fetch\('(.*?)'", PAGE.text)
    [(name, value)] = re.findall(r"'(\w+)': `(.*?)`", PAGE.text)
    answer = product.call("GET", path, headers=[(name, value.replace("${apiKey}", key))])
    assert answer.status == 200


@PAGE.says(
    "Navigate to Settings > API Keys",
    "Click Create API Key",
    "Configure the key:",
    '- Name: A descriptive name (e.g., "CI/CD Pipeline", "Backup Script")',
    "- Expiration: Optional expiration date",
    "- Permissions: Select access levels for each resource",
    "Click Create",
    "Important: Copy the API key immediately - it won't be shown again",
    "Supascale API keys use the format:",
    "supascale_xxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    "The supascale_ prefix helps identify the key type and prevents accidental exposure.",
    "- Go to Settings > API Keys",
    "- View all created keys with:",
    "- Name",
    "- Creation date",
    "- Expiration date (if set)",
    "- Permissions summary",
    "- Audit periodically: Review which keys exist and their permissions",
    "- Use descriptive names: Know what each key is used for",
)
def test_keys_are_made_and_viewed_under_settings(product: Product) -> None:
    end = (datetime.now(UTC) + timedelta(days=30)).replace(microsecond=0)
    plain = new_key(product, "projects:read")
    ending = new_key(product, "backups:write", name="Backup Script", expiresAt=end.isoformat())
    for made in (plain, ending):
        assert re.fullmatch(r"supascale_[0-9A-Za-z]{28}", made["key"])
    listed = product.panel("GET", "/settings/api-keys")
    shown = {one.pop("id"): one for one in listed.json()}
    for one in shown.values():
        assert re.fullmatch(SECONDS.pattern, one.pop("createdAt"))
    assert shown[plain["id"]] == {
        "name": "CI/CD Pipeline",
        "expiresAt": None,
        "permissions": ["projects:read"],
    }
    assert shown[ending["id"]] == {
        "name": "Backup Script",
        "expiresAt": end.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "permissions": ["backups:write"],
    }
    assert plain["key"].encode() not in listed.body
    assert product.call("GET", "/settings/api-keys", key=plain["key"]).status == 401


@PAGE.says(
    "Each key can have specific permissions, limiting what actions it can perform.",
    "Each API key has granular permissions for different resources:",
    "| Resource | None | Read | Write |",
    "|---|---|---|---|",
    "| Projects | No access | View projects, status, logs | Create, update, delete projects |",
    "| Backups | No access | List backups | Create, restore, delete backups |",
    "| Tasks | No access | View scheduled tasks | Create, update, delete tasks |",
    "| Cloud Storage | No access | List storage configs | Add, update, remove storage |",
    "| System | No access | View system info | Update settings, manage users |",
    "- None: No access to this resource",
    "- Read: Can view but not modify",
    "- Write: Full access (includes read)",
    "If you receive a 403 error:",
    "- Check the key has the required permission level",
    "- Verify the key has access to the specific resource type",
    "- Minimal permissions: Only grant permissions the key actually needs",
)
@pytest.mark.parametrize("resource", RESOURCES)
def test_none_read_and_write(product: Product, resource: str) -> None:
    assert held_by(product, new_key(product)["key"]) == {}
    assert held_by(product, new_key(product, f"{resource}:read")["key"]) == {resource: {"read"}}
    assert held_by(product, new_key(product, f"{resource}:write")["key"]) == {
        resource: {"read", "write"}
    }


@PAGE.says(
    "Create a key with limited permissions for deployments:",
    "- Projects: Write (to deploy/update)",
    "- Backups: Read (to verify backup status)",
    "For an automated backup script:",
    "- Backups: Write (to create backups)",
    "- Cloud Storage: Read (to verify storage config)",
    "For external monitoring tools:",
    "- Projects: Read (to check status)",
    "- System: Read (to check health)",
    "- Others: None",
)
def test_the_use_cases_of_the_page(product: Product) -> None:
    uses: list[dict[str, set[str]]] = []
    for block in PAGE.text.partition("Example Use Cases")[2].split("- Others: None")[:3]:
        chosen = re.findall(r"^- ([\w ]+): (Read|Write) ", block, re.MULTILINE)
        levels = {name.lower().replace(" ", "-"): level.lower() for name, level in chosen}
        key = new_key(product, *(f"{name}:{level}" for name, level in levels.items()))["key"]
        expected = {
            name: {"read", "write"} if level == "write" else {"read"}
            for name, level in levels.items()
        }
        assert held_by(product, key) == expected
        uses.append(expected)
    assert len(uses) == 3
    assert all(len(use) == 2 for use in uses)


@PAGE.says(
    "To revoke an API key:",
    "- Find the key to revoke",
    "- Click Delete",
    "- Confirm the deletion",
    "Revoked keys are immediately invalidated.",
    "- Rotate regularly: Create new keys and revoke old ones periodically",
    "If you receive an authentication error:",
    "- Verify the key is copied correctly (no extra spaces)",
    "- Check the key hasn't expired",
    "- Ensure the key hasn't been revoked",
    "- Verify the",
    "Authorizationheader format",
    "- Ensure you copied the complete key including the",
    "- Check for any typos in the Authorization header",
    "- Set expiration dates: Limit key lifetime, especially for temporary access",
)
def test_keys_that_are_not_good_get_an_authentication_error(product: Product) -> None:
    end = datetime.now(UTC) + timedelta(seconds=2)
    good, revoked = new_key(product, "projects:read"), new_key(product, "projects:read")
    ending = new_key(product, "projects:read", expiresAt=end.isoformat())
    for made in (revoked, ending):
        assert projects(product, made["key"]).status == 200
    assert product.panel("DELETE", f"/settings/api-keys/{revoked['id']}").status == 204
    time.sleep(max(0, (end - datetime.now(UTC)).total_seconds()))
    key = good["key"]
    spaced = f"{key[:12]} {key[12:]}"
    bare = key.removeprefix("supascale_")
    for wrong in (revoked["key"], ending["key"], spaced, bare, key[:-1], f"{key}x"):
        answer = projects(product, wrong)
        assert (answer.status, answer.json()) == (401, INVALID)
    for header in (("Authorization", key), ("Authorization", f"Basic {key}"), ("X-API-Key", key)):
        answer = product.call("GET", "/api/v1/projects", headers=[header])
        assert (answer.status, answer.json()) == (401, INVALID)
    assert projects(product, key).status == 200


def test_what_the_page_does_not_know_is_answered_in_its_style(product: Product) -> None:
    key = new_key(product, "projects:write")["key"]
    answer = product.call("GET", "/api/v1/nowhere", key=key)
    assert (answer.status, answer.json()) == (404, {"error": "Not Found", "code": "not_found"})
    missing = product.call("DELETE", "/api/v1/projects/0", key=key)
    assert (missing.status, missing.json()["code"]) == (404, "not_found")


PAGE.shown_by(
    "systems/test_every_system.py::test_the_plaintext_is_shown_once_and_kept_nowhere",
    "Note: The actual key value is never shown after creation - only a hash is stored.",
)
PAGE.shown_by(
    "edge/test_systems_over_http.py::test_failed_attempts_are_in_the_activity_log",
    "- Investigate failures: Failed API key attempts are logged",
)
PAGE.shown_by(
    "edge/test_systems_over_http.py::test_each_access_is_in_the_log_of_the_edge_and_counted_at_the_key",
    "- Review key usage: Check activity logs for API key access",
)
PAGE.promises_nothing(
    "API Key Management",
    "Create and manage API keys for programmatic access to Supascale.",
    "Supascale's API key system allows you to grant programmatic access to your instance with "
    "fine-grained permission controls.",
    "This is useful for automation, CI/CD pipelines, and external integrations.",
    "Overview",
    # The product's own sessions.
    "API keys provide an alternative to session-based authentication for the Supascale API.",
    "Creating an API Key",
    "API Key Format",
    "Permissions",
    "Permission Levels",
    "Using API Keys",
    "Managing API Keys",
    "Viewing Keys",
    "Revoking Keys",
    "Security Best Practices",
    "Key Management",
    "Key Storage",
    "- Never commit keys to version control: Use environment variables",
    "- Use secrets management: Store in secure vaults (AWS Secrets Manager, HashiCorp Vault)",
    "- Limit access: Only share keys with systems that need them",
    "Monitoring",
    "Example Use Cases",
    "CI/CD Pipeline",
    "Backup Script",
    "Monitoring Integration",
    "Troubleshooting",
    "Invalid API Key",
    "Permission Denied",
    "- Review the permission settings for the key",
    "Key Not Working After Creation",
)
