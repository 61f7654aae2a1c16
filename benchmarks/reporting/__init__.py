"""Reports of benchmarks and fault runs: one JSON document, and one page of its own with nothing to load."""

from benchmarks.reporting.page import Chart, Figure, Section, Table, Text, write_report

__all__ = ["Chart", "Figure", "Section", "Table", "Text", "write_report"]
