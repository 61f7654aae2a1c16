"""Makes the stubs while the distribution is built, so that none is ever committed.

The descriptors keep their names (`lookalike/types/v1/space.proto`); the Python package is called `lookalike_protos`, because the package
`lookalike` is the client's.
"""

import re
import subprocess
import sys
from pathlib import Path

import grpc_tools
from setuptools import setup
from setuptools.command.build_py import build_py

SOURCES = Path(__file__).parent
PACKAGE = "lookalike_protos"
STUB_IMPORT = re.compile(r"^(\s*(?:from|import) )lookalike\.(types|trainer|embedder|indexer)\.v1\b", re.MULTILINE)


def googleapis() -> Path:
    import google.rpc

    return Path(google.rpc.__path__[0]).parents[1]


def compile_protos(target: Path) -> None:
    """Write stubs and their types for every proto below `target/lookalike`."""
    builtin = Path(grpc_tools.__file__).parent / "_proto"
    protos = sorted(str(path.relative_to(SOURCES)) for path in SOURCES.glob("lookalike/*/v1/*.proto"))
    outputs = [f"--{kind}_out={target}" for kind in ("python", "grpc_python", "mypy", "mypy_grpc")]
    includes = [f"--proto_path={path}" for path in (SOURCES, builtin, googleapis())]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *includes, *outputs, *protos], cwd=SOURCES, check=True)


def adopt(generated: Path, package: Path) -> None:
    """Move the stubs into the package and let them import one another from there."""
    for path in sorted(generated.rglob("*.py*")):
        text = STUB_IMPORT.sub(rf"\1{PACKAGE}.\2.v1", path.read_text(encoding="utf-8"))
        home = package / path.relative_to(generated / "lookalike")
        home.parent.mkdir(parents=True, exist_ok=True)
        home.write_text(text, encoding="utf-8")
    for folder in (path for path in package.rglob("*") if path.is_dir()):
        (folder / "__init__.py").touch()


class BuildStubs(build_py):
    def run(self) -> None:
        super().run()
        generated = Path(self.build_lib).parent / "stubs"
        generated.mkdir(parents=True, exist_ok=True)
        compile_protos(generated.resolve())
        adopt(generated, Path(self.build_lib) / PACKAGE)


setup(cmdclass={"build_py": BuildStubs})
