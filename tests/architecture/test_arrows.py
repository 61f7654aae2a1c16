"""Arrows point one way: protos ← libs ← services; the client knows no service."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LIBS = {"lookalike_images", "lookalike_retrieval", "lookalike_model", "lookalike_runtime"}
# Package: its folder, what of ours it may import, what of others' it must not.
RULES: dict[str, tuple[str, set[str], set[str]]] = {
    "lookalike_protos": ("protos", set(), {"torch", "annoy"}),
    "lookalike_images": ("libs/images", set(), {"torch", "annoy", "grpc"}),
    "lookalike_retrieval": ("libs/retrieval", set(), {"torch", "annoy", "grpc", "PIL"}),
    "lookalike_model": ("libs/model", {"lookalike_images"}, {"annoy", "grpc"}),
    "lookalike_runtime": ("libs/runtime", {"lookalike_protos"}, {"torch", "annoy"}),
    "lookalike_trainer": ("services/trainer", LIBS | {"lookalike_protos"}, {"annoy"}),
    "lookalike_embedder": ("services/embedder", LIBS | {"lookalike_protos"}, {"annoy"}),
    "lookalike_indexer": ("services/indexer", (LIBS - {"lookalike_model"}) | {"lookalike_protos"}, {"torch", "timm"}),
    "lookalike": ("clients/python", {"lookalike_protos", "lookalike_retrieval", "lookalike_images"}, {"torch", "annoy", "timm"}),
}
# Parts of a service that touch the wire; all else is domain code.
WIRE = {"servicers", "servicer.py", "service.py", "__main__.py"}


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / RULES[package][0] / "src" / package).rglob("*.py"))


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("package", RULES)
def test_package_imports_only_what_its_arrow_allows(package: str) -> None:
    _, allowed, forbidden = RULES[package]
    modules = modules_of(package)
    assert modules, f"{package} has no modules"
    for path in modules:
        imports = imports_of(path)
        ours = {name for name in imports if name == "lookalike" or name.startswith("lookalike_")}
        assert ours <= allowed | {package}, f"{path} imports {ours - allowed - {package}}"
        assert not imports & forbidden, f"{path} imports {imports & forbidden}"


@pytest.mark.parametrize("package", RULES)
def test_pyproject_names_the_distributions_that_are_imported(package: str) -> None:
    folder, _, _ = RULES[package]
    project = tomllib.loads((ROOT / folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {d.split("==")[0].split(">=")[0].split("[")[0].replace("-", "_") for d in project["dependencies"] if d.startswith("lookalike")}
    used = {name for path in modules_of(package) for name in imports_of(path) if name.startswith("lookalike_")} - {package}
    assert used <= named, f"{folder}/pyproject.toml does not name {used - named}"


@pytest.mark.parametrize("package", ["lookalike_trainer", "lookalike_embedder", "lookalike_indexer"])
def test_domain_code_knows_no_grpc(package: str) -> None:
    home = ROOT / RULES[package][0] / "src" / package
    for path in modules_of(package):
        if not WIRE & set(path.relative_to(home).parts):
            assert "grpc" not in imports_of(path), f"{path} imports grpc"


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty_words = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
    for package in RULES:
        for path in modules_of(package):
            assert not empty_words & set(path.stem.split("_")), path
