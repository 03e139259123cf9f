"""deploy/helm: helm renders the chart, refuses wrong values, and the result starts servers.

`make test-helm` builds helm and runs these; see conftest.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.settings import gateway_settings, server_settings
from docs.pages import ROOT
from keyfence_server.config import Settings

HELM = os.environ["KEYFENCE_HELM"]
CHART = ROOT / "deploy" / "helm" / "keyfence"
PLAIN = ("tls.insecurePlaintext=true",)
FULL = (
    *("tls.secretName=keyfence-tls", "secrets.sessionKey=sessions", "secrets.rateLimit=redis"),
    *("gateway.enabled=true", "gateway.tlsSecretName=edge", "gateway.targetCaSecretName=ca"),
    *("metrics.serviceMonitor.enabled=true", "settings.USAGE_DAYS=90"),
    *("gateway.settings.LOG_LEVEL=error",),
    "networkPolicy.monitoring[0].namespaceSelector.matchLabels.name=monitoring",
)
KUBERNETES = "1.31"


def helm(*arguments: str, values: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    options: list[str] = []
    for value in values:
        is_text = not value.endswith(("true", "false"))
        options += ["--set-string" if is_text else "--set", value]
    return subprocess.run(
        [HELM, *arguments, *options], capture_output=True, text=True, check=False, timeout=60
    )


def rendered(*values: str, chart: Path = CHART) -> dict[tuple[str, str], Any]:
    """The objects, by kind and name."""
    done = helm("template", "kf", str(chart), "--kube-version", KUBERNETES, values=values)
    assert done.returncode == 0, done.stderr
    documents = [one for one in yaml.safe_load_all(done.stdout) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in documents}
    assert len(found) == len(documents)
    return found


def containers(objects: dict[tuple[str, str], Any]) -> dict[str, Any]:
    return {
        name: container
        for (kind, name), one in objects.items()
        if kind in {"Deployment", "Job"}
        for container in one["spec"]["template"]["spec"]["containers"]
    }


def variables(container: Any) -> dict[str, str]:
    """The container's variables; those from secrets with a value of the right form."""
    forms = {
        "KEYFENCE_DATABASE_URL": "postgresql://keyfence@db/keyfence",
        "KEYFENCE_RATE_LIMIT_URL": "redis://redis/0",
    }
    return {one["name"]: one.get("value", forms.get(one["name"], "x")) for one in container["env"]}


@pytest.mark.parametrize("values", [PLAIN, FULL])
def test_helm_finds_nothing_wrong(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", str(CHART), values=values)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", [PLAIN, FULL])
def test_every_variable_is_a_setting_with_a_valid_value(
    values: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = containers(rendered(*values))
    assert isinstance(server_settings(variables(found["kf-keyfence"]), monkeypatch), Settings)
    server_settings(variables(found["kf-keyfence-migrate"]), monkeypatch)
    if "kf-keyfence-gateway" in found:
        gateway_settings(variables(found["kf-keyfence-gateway"]), monkeypatch)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ((*PLAIN, "replicas=0"), "replicas"),
        (("tls.insecurePlaintext=false",), "tls"),
        ((*PLAIN, "secrets.pepper="), "pepper"),
        ((*PLAIN, "secrets.databse=x"), "databse"),
        ((*PLAIN, "settings.PEPPER=1:AAAA"), "PEPPER"),
        ((*PLAIN, "settings.KEYFENCE_LISTEN=x"), "KEYFENCE_LISTEN"),
        ((*PLAIN, "image.digest=sha256:short"), "digest"),
        ((*PLAIN, "gateway.enabled=true"), "gateway"),
    ],
)
def test_wrong_values_are_refused_by_name(wrong: tuple[str, ...], named: str) -> None:
    done = helm("template", "kf", str(CHART), "--kube-version", KUBERNETES, values=wrong)
    assert done.returncode != 0
    assert named in done.stderr


@pytest.mark.parametrize("values", [PLAIN, FULL])
def test_no_secret_is_made_and_each_is_named(values: tuple[str, ...]) -> None:
    objects = rendered(*values)
    assert not [name for kind, name in objects if kind == "Secret"]
    for container in containers(objects).values():
        for one in container["env"]:
            assert "valueFrom" in one or "://" not in one["value"]


@pytest.mark.parametrize("values", [PLAIN, FULL])
def test_every_pod_is_restricted_and_every_selector_finds_its_pods(values: tuple[str, ...]) -> None:
    objects = rendered(*values)
    labels = {}
    for (kind, name), one in objects.items():
        if kind not in {"Deployment", "Job"}:
            continue
        template = one["spec"]["template"]
        pod = template["spec"]
        labels[name] = template["metadata"]["labels"].items()
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] is True
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            mounted = {mount["name"] for mount in container.get("volumeMounts", ())}
            assert mounted == {volume["name"] for volume in pod.get("volumes", ())}
    for (kind, name), one in objects.items():
        selector = _selector(kind, one["spec"])
        if selector is not None:
            matched = [pod for pod, its in labels.items() if selector.items() <= its]
            wanted = "kf-keyfence-gateway" if "gateway" in name else "kf-keyfence"
            assert matched == [wanted], (kind, name)


def _selector(kind: str, spec: Any) -> Any:
    match kind:
        case "Service":
            return spec["selector"]
        case "Deployment" | "PodDisruptionBudget":
            return spec["selector"]["matchLabels"]
        case "NetworkPolicy":
            return spec["podSelector"]["matchLabels"]
    return None


def test_the_probes_ask_what_is_served_and_outlast_the_start_and_the_drain(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    objects = rendered(*PLAIN)
    pod = objects["Deployment", "kf-keyfence"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    settings = server_settings(variables(container), monkeypatch)
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    startup = container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] > settings.database_wait_seconds
    drain = settings.drain_seconds + settings.drain_delay_seconds
    assert pod["terminationGracePeriodSeconds"] > drain


def test_an_application_takes_the_sidecar_from_the_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the comment in _helpers.tpl says."""
    chart = tmp_path / "app"
    shutil.copytree(CHART, chart / "charts" / "keyfence")
    (chart / "templates").mkdir()
    (chart / "Chart.yaml").write_text(
        "apiVersion: v2\nname: app\nversion: 0.1.0\n"
        "dependencies: [{name: keyfence, version: 0.1.0}]\n"
    )
    (chart / "values.yaml").write_text("keyfence: {libraryOnly: true}\n")
    arguments = (
        '(dict "image" "keyfence:0.1.0" "upstream" "keyfence.auth.svc:50051" '
        '"tokenSecret" "app-token" "caSecret" "ca")'
    )
    (chart / "templates" / "pod.yaml").write_text(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: app}\nspec:\n"
        "  containers:\n"
        f'    {{{{- include "keyfence.sidecarContainer" {arguments} | nindent 4 }}}}\n'
        "  volumes:\n"
        f'    {{{{- include "keyfence.sidecarVolumes" {arguments} | nindent 4 }}}}\n'
    )
    objects = rendered(chart=chart)
    assert list(objects) == [("Pod", "app")]
    pod = objects["Pod", "app"]
    (container,) = pod["spec"]["containers"]
    assert container["args"] == ["sidecar"]
    settings = server_settings(variables(container), monkeypatch)
    assert settings.upstream_targets() == ["keyfence.auth.svc:50051"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["spec"]["volumes"]
    }
