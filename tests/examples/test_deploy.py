"""The files in examples/deploy, checked by the validators of the tools that read them, and against the service."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

pytest.importorskip("prometheus_client", reason="pip install '.[serve]'")
pytest.importorskip("uvicorn", reason="pip install '.[serve]'")
pytest.importorskip("yaml", reason="pip install '.[dev]'")

import yaml
from prometheus_client.parser import text_string_to_metric_families

from runtime.serve.__main__ import Options, check
from runtime.serve.metrics import Metrics
from tests.test_house import ROOT

DEPLOY = ROOT / "examples" / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "shrike.json").read_text("utf-8"))
SAMPLE = re.compile(r"\b((?:shrike|process)_\w+|up)\b")
PROMTOOL = shutil.which("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="needs promtool: sudo apt install prometheus")


def load(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text("utf-8"))


COMPOSE = load("compose.yaml")
RULES = [rule for group in load("rules.yaml")["groups"] for rule in group["rules"]]
OBJECTS = list(yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text("utf-8")))
PODS = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in OBJECTS if one["kind"] == "Deployment"}
SERVED = {"compose": COMPOSE["services"]["shrike"]["command"], "kubernetes": PODS["shrike"]["containers"][0]["args"]}


@pytest.fixture(scope="module")
def exposed() -> str:
    """Metrics of a service that has seen everything."""
    metrics = Metrics()
    for one in (metrics.verdicts, metrics.files):
        one.labels("spoof").inc()
    metrics.refused.labels("token").inc()
    metrics._models.labels("score", "edge", "int8", "2026").set(1)
    metrics.add_lateness(0.1)
    metrics.sound.inc(1.0)
    return metrics.expose().decode()


def expressions() -> dict[str, str]:
    """Every expression of the dashboard and the alerts, without Grafana's variables."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            found[f"{panel['title']} {target['refId']}"] = target["expr"]
    return {name: text.replace("$__rate_interval", "5m").replace("$instance", ".*") for name, text in found.items()}


# ---------------------------------------------------------------- dashboard and alerts


@pytest.mark.parametrize(("name", "expression"), expressions().items())
def test_every_metric_and_label_of_an_expression_exists(name: str, expression: str, exposed: str) -> None:
    samples = [one for family in text_string_to_metric_families(exposed) for one in family.samples]
    labels = {"instance", "job"} | {label for one in samples for label in one.labels}
    outside = re.sub(r'"[^"]*"', "", expression)
    assert (wanted := set(SAMPLE.findall(outside))) and wanted <= {one.name for one in samples} | {"up"}
    used = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)(?!=)", re.sub(r"==", "", outside)))
    used |= {one.strip() for group in re.findall(r"by \(([^)]*)\)", outside) for one in group.split(",")}
    assert used <= labels


def test_the_dashboard_shows_every_metric_of_ours(exposed: str) -> None:
    ours = {one.name for one in text_string_to_metric_families(exposed) if one.name.startswith("shrike_")}
    ours.discard("shrike_lateness_recent_seconds")  # quantiles for readers without Prometheus
    shown = " ".join(expressions().values())
    assert {name for name in ours if name not in shown and not name.endswith("_created")} == set()


def test_panels_have_their_own_place_and_the_provisioned_source() -> None:
    (source,) = load("grafana/datasources.yaml")["datasources"]
    taken = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + row) for column in range(place["w"]) for row in range(place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24
        taken |= cells
        assert {target["datasource"]["uid"] for target in panel["targets"]} == {source["uid"]}
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def promtool(*words: str, text: str | None = None) -> None:
    assert PROMTOOL
    done = subprocess.run([PROMTOOL, *words], cwd=DEPLOY, input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_configuration_rules_and_metrics(exposed: str) -> None:
    promtool("check", "config", "--syntax-only", "prometheus.yaml")
    promtool("check", "rules", "rules.yaml")
    promtool("test", "rules", "rules_test.yaml")  # of two services each alert fires for the bad one
    promtool("check", "metrics", text=exposed)


@needs_promtool
def test_promtool_takes_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    rules = [{"record": f"a{number}", "expr": text} for number, text in enumerate(expressions().values())]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    promtool("check", "rules", str(tmp_path / "rules.yaml"))


# ---------------------------------------------------------------- containers


@pytest.mark.parametrize("words", SERVED.values(), ids=list(SERVED))
def test_the_command_in_the_container_is_a_valid_one(words: list[str]) -> None:
    options = tyro.cli(Options, args=words, console_outputs=False)
    check(options)
    assert str(options.token_file) == "/run/secrets/token" and options.host == "0.0.0.0"


def test_the_image_runs_as_a_user_and_holds_no_secret() -> None:
    lines = (DEPLOY / "Dockerfile").read_text("utf-8").splitlines()
    steps = [line.split(" ", 1) for line in lines if line and line[0] != "#"]
    words = dict(steps)
    assert int(words["USER"].partition(":")[0]) > 0 and not words["FROM"].endswith(":latest")
    options = tyro.cli(Options, args=json.loads(words["CMD"]), console_outputs=False)
    check(options)
    assert int(words["EXPOSE"]) == options.port
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    secrets = [Path("examples/deploy", one["file"]) for one in COMPOSE["secrets"].values()]
    assert {str(path) for path in secrets} <= set(ignored)
    names = (DEPLOY / ".gitignore").read_text("utf-8").split()
    assert {path.name for path in secrets} <= set(names)


def test_compose_fits_its_schema_and_locks_every_container() -> None:
    pytest.importorskip("check_jsonschema", reason="pip install '.[dev]'")
    line = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*line, str(DEPLOY / "compose.yaml")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
    for service in COMPOSE["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["mem_limit"] and service["cpus"]
        assert not service["user"].startswith(("0", "root"))
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service.get("volumes", ()):
            source, _, *mode = volume.split(":")
            assert source in COMPOSE["volumes"] or ((DEPLOY / source).is_file() and mode == ["ro"])
    assert COMPOSE["services"]["shrike"]["networks"]["default"]["aliases"] == scraped()


def scraped() -> list[str]:
    """Names that Prometheus looks up."""
    (job,) = load("prometheus.yaml")["scrape_configs"]
    return job["dns_sd_configs"][0]["names"]


def test_kubernetes_objects_fit_their_schemas() -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="pip install '.[dev]'")
    for one in OBJECTS:
        validator.validate(one, validator.latest_version(), strict=True)


def test_every_pod_is_locked_limited_and_probed() -> None:
    for name, pod in PODS.items():
        (container,) = pod["containers"]
        locked, resources = container["securityContext"], container["resources"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
        assert locked["readOnlyRootFilesystem"] and not locked["allowPrivilegeEscalation"]
        assert locked["capabilities"]["drop"] == ["ALL"] and not pod["automountServiceAccountToken"]
        assert set(resources["requests"]) == set(resources["limits"]) == {"cpu", "memory"}
        probes = {one: container[f"{one}Probe"]["httpGet"]["path"] for one in ("liveness", "readiness")}
        assert name != "shrike" or probes == {"liveness": "/healthz", "readiness": "/readyz"}
        mounted = {one["name"] for one in container["volumeMounts"]}
        assert mounted == {one["name"] for one in pod["volumes"]}
    services = {one["metadata"]["name"]: one["spec"] for one in OBJECTS if one["kind"] == "Service"}
    assert all(spec["selector"]["app"] in PODS for spec in services.values())
    (each,) = scraped()
    assert services[each]["clusterIP"] == "None"


def test_kustomize_adds_the_configuration_that_pods_mount() -> None:
    made = {one["name"]: one["files"] for one in load("kustomization.yaml")["configMapGenerator"]}
    assert all((DEPLOY / file).is_file() for files in made.values() for file in files)
    for pod in PODS.values():
        maps = {one["name"]: one["configMap"]["name"] for one in pod["volumes"] if "configMap" in one}
        assert set(maps.values()) <= set(made)
        for mount in pod["containers"][0]["volumeMounts"]:
            if "subPath" in mount:
                assert mount["subPath"] in {Path(file).name for file in made[maps[mount["name"]]]}
    if shutil.which("kubectl"):
        built = subprocess.run(["kubectl", "kustomize", str(DEPLOY)], capture_output=True, text=True, timeout=60)
        assert built.returncode == 0, built.stderr
        assert len(list(yaml.safe_load_all(built.stdout))) == len(OBJECTS) + len(made)
