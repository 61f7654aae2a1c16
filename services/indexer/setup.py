"""The compiled parts; all else stands in pyproject.toml."""

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup

_HEADERS = ["cpp/inner_product.hpp", "cpp/scored.hpp", "cpp/whole_numbers.hpp"]


def _extension(module: str, source: str) -> Pybind11Extension:
    return Pybind11Extension(module, [source], depends=_HEADERS, cxx_std=17, extra_compile_args=["-O3", "-Wno-psabi"])


setup(
    ext_modules=[
        _extension("lookalike_indexer._ranking", "cpp/ranking.cpp"),
        _extension("lookalike_indexer.candidates._cells", "cpp/cells.cpp"),
        _extension("lookalike_indexer.candidates._components", "cpp/components.cpp"),
        _extension("lookalike_indexer.candidates._graph", "cpp/graph.cpp"),
    ]
)
