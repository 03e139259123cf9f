"""deploy/gateway-api: the services that it lets in are those of the API, and no others. In front
of an API, each rule of its route says what Keyfence has to ask."""

from __future__ import annotations

from typing import Any, Final

import pytest
import yaml

from docs.pages import ROOT
from keyfence_server.rpc.envoy.routes import UnusableRoute, read_route
from support.serving import METHODS

DOCUMENTS = {
    one["kind"]: one
    for one in yaml.safe_load_all((ROOT / "deploy/gateway-api/keyfence.yaml").read_text())
}
INSIDE = {"ReplicationService"}
GUARDED: Final = list(
    yaml.safe_load_all((ROOT / "deploy/gateway-api/guarded-api.yaml").read_text())
)
# Envoy Gateway 1.9, api/v1alpha1/ext_auth_types.go: `ExtAuth` and `ContextExtension`. The whole
# file was compared with the custom resource definitions of that release.
EXT_AUTH: Final = {
    *("grpc", "http", "headersToExtAuth", "bodyToExtAuth", "timeout", "failOpen"),
    *("recomputeRoute", "includeRouteMetadata", "contextExtensions", "statusOnError"),
}
CONTEXT_EXTENSION: Final = {"name", "type", "value", "valueRef"}


def test_every_service_is_let_in_but_the_streams_of_holders() -> None:
    (rule,) = DOCUMENTS["GRPCRoute"]["spec"]["rules"]
    let_in = {match["method"]["service"] for match in rule["matches"]}
    every = {method.containing_service.full_name for method in METHODS.values()}
    services = {one for one in every if one.startswith("keyfence.v1.")}
    assert let_in == {one for one in services if one.rpartition(".")[2] not in INSIDE}


def test_the_route_goes_to_the_service_of_the_chart() -> None:
    (rule,) = DOCUMENTS["GRPCRoute"]["spec"]["rules"]
    values = yaml.safe_load((ROOT / "deploy/helm/keyfence/values.yaml").read_text())
    assert rule["backendRefs"] == [{"name": "keyfence", "port": values["service"]["port"]}]
    (target,) = DOCUMENTS["BackendTLSPolicy"]["spec"]["targetRefs"]
    assert target["name"] == "keyfence"


def guarded(kind: str) -> list[dict[str, Any]]:
    return [one for one in GUARDED if one["kind"] == kind]


def policies() -> dict[str, dict[str, Any]]:
    """What Envoy asks for each rule of the route; for "" where a rule has no policy."""
    found = {}
    for policy in guarded("SecurityPolicy"):
        (target,) = policy["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("HTTPRoute", "shop")
        found[target.get("sectionName", "")] = policy["spec"]["extAuth"]
    return found


def test_every_rule_has_a_policy_that_keyfence_understands() -> None:
    (route,) = guarded("HTTPRoute")
    asked = policies()
    assert set(asked) == {"", *(rule["name"] for rule in route["spec"]["rules"])}
    declared = yaml.safe_load((ROOT / "examples/keyspaces/quicksrv.yaml").read_text())
    for name, ext_auth in asked.items():
        assert ext_auth.keys() <= EXT_AUTH
        assert (ext_auth["failOpen"], ext_auth["recomputeRoute"]) == (False, False)
        assert ext_auth["statusOnError"] == 503
        given = ext_auth["contextExtensions"]
        assert all(one.keys() <= CONTEXT_EXTENSION for one in given)
        extensions = {one["name"]: one["value"] for one in given}
        if not name:
            with pytest.raises(UnusableRoute, match="required_scopes"):
                read_route(extensions)
            continue
        demand = read_route(extensions)
        assert demand.keyspace == declared["keyspace"]
        assert set(demand.required_scopes) <= declared["scopes"].keys()


def test_envoy_sends_its_own_credential_and_clients_cannot_forge_ours() -> None:
    (patch,) = guarded("EnvoyPatchPolicy")
    credential, _ = (one["operation"] for one in patch["spec"]["jsonPatches"])
    sent = {one["key"]: one["value"] for one in credential["value"]}
    (proxy,) = guarded("EnvoyProxy")
    container = proxy["spec"]["provider"]["kubernetes"]["envoyDeployment"]["container"]
    (variable,) = container["env"]
    assert sent["authorization"] == f"Bearer %ENVIRONMENT({variable['name']})%"
    assert "secretKeyRef" in variable["valueFrom"]
    (clients,) = guarded("ClientTrafficPolicy")
    removed = clients["spec"]["headers"]["earlyRequestHeaders"]["removeOnMatch"]
    assert removed == [{"type": "Prefix", "value": "x-keyfence-"}]
