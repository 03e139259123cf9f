"""deploy/gateway-api: the services that it lets in are those of the API, and no others."""

from __future__ import annotations

import yaml

from docs.pages import ROOT
from support.serving import METHODS

DOCUMENTS = {
    one["kind"]: one
    for one in yaml.safe_load_all((ROOT / "deploy/gateway-api/keyfence.yaml").read_text())
}
INSIDE = {"ReplicationService"}


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
