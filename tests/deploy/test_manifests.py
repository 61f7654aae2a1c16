"""The deployment files render, validate and run only what a service needs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVICES = ["trainer", "embedder", "indexer"]


def render(folder: str) -> list[dict[str, Any]]:
    kubectl = shutil.which("kubectl", path=str(Path(sys.executable).parent))
    assert kubectl, "kubectl is missing from the environment: make setup"
    out = subprocess.run([kubectl, "kustomize", str(DEPLOY / "kustomize" / folder)], capture_output=True, text=True, check=False)
    assert out.returncode == 0, out.stderr
    return [document for document in yaml.safe_load_all(out.stdout) if document]


@pytest.mark.parametrize("folder", ["base", "overlays/single-node"])
def test_every_manifest_is_valid(folder: str) -> None:
    import kubernetes_validate

    for document in render(folder):
        kubernetes_validate.validate(document, "1.31", strict=True)


@pytest.mark.parametrize("service", SERVICES)
def test_pods_are_probed_by_grpc_and_run_as_nobody(service: str) -> None:
    pods = [d["spec"]["template"]["spec"] for d in render("base") if d["kind"] in ("Deployment", "StatefulSet")]
    (pod,) = [p for p in pods if p["containers"][0]["name"] == service]
    container = pod["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["grpc"]["port"] == 50051
    assert pod["securityContext"]["runAsNonRoot"]
    assert container["securityContext"]["readOnlyRootFilesystem"]


def test_services_are_headless_so_that_clients_balance() -> None:
    services = [d for d in render("base") if d["kind"] == "Service"]
    assert len(services) == 3
    assert all(d["spec"]["clusterIP"] == "None" for d in services)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_only_what_it_runs(service: str) -> None:
    text = (DEPLOY / "containers" / f"{service}.Containerfile").read_text(encoding="utf-8")
    copied = {line.split()[1] for line in text.splitlines() if line.startswith("COPY ") and "--from" not in line}
    assert copied >= {"protos", f"services/{service}", "constraints.txt"}
    assert all((ROOT / path).exists() for path in copied)
    others = {f"services/{other}" for other in SERVICES if other != service} | {"clients/python"}
    assert not copied & others
    assert "USER 10001" in text


def test_the_compose_file_names_files_that_exist() -> None:
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
    for service in SERVICES:
        build = compose["services"][service]["build"]
        assert (DEPLOY / "compose" / build["context"] / build["dockerfile"]).resolve().is_file()
