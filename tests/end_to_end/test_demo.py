"""The demo's own code, from servers to report, on a small data set of coloured drawings."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image, ImageDraw

from examples.emoji import dataset, demo

VENDORS = ["noto", "openmoji", "fluent-emoji", "fluent-emoji-flat", "noto-v1", *dataset.QUERY_VENDORS]
SHAPES = ["disc", "square", "ring", "cross", "bars", "wedge"]
COLOURS = ["crimson", "seagreen", "royalblue"]
TRAIN_CLASSES, TEST_CLASSES = 12, 6


def drawing(shape: str, colour: str, seed: int) -> Image.Image:
    """Draw a class as one vendor would: its size and place are the vendor's."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (96, 96), "white")
    pen = ImageDraw.Draw(image)
    left, top, side = (int(v) for v in (rng.integers(8, 24), rng.integers(8, 24), rng.integers(44, 60)))
    box = (left, top, left + side, top + side)
    middle = (left + side // 2, top + side // 2)
    match shape:
        case "disc":
            pen.ellipse(box, fill=colour)
        case "square":
            pen.rectangle(box, fill=colour)
        case "ring":
            pen.ellipse(box, outline=colour, width=9)
        case "cross":
            pen.line((box[0], middle[1], box[2], middle[1]), fill=colour, width=13)
            pen.line((middle[0], box[1], middle[0], box[3]), fill=colour, width=13)
        case "bars":
            for offset in (0, side // 3, 2 * side // 3):
                pen.rectangle((left + offset, top, left + offset + side // 6, top + side), fill=colour)
        case "wedge":
            pen.polygon([(box[0], box[3]), (box[2], box[3]), (middle[0], box[1])], fill=colour)
    return image


def make_small_data(out: Path, size: int) -> None:
    assert size == 96
    names = [f"{colour}-{shape}" for colour, shape in product(COLOURS, SHAPES)]
    for place, name in enumerate(names):
        colour, shape = name.split("-")
        for vendor_number, vendor in enumerate(VENDORS):
            path = out / dataset.folder(vendor, training=place < TRAIN_CLASSES) / name / f"{vendor}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            drawing(shape, colour, 100 * place + vendor_number).save(path)
    summary = {"train_classes": TRAIN_CLASSES, "test_classes": TEST_CLASSES, "queries": 2 * TEST_CLASSES, "references": 5 * TEST_CLASSES}
    (out / "dataset.json").write_text(json.dumps(summary))
    (out / "licences.json").write_text(
        json.dumps([{"set": "noto", "licence": "Apache 2.0", "spdx": "Apache-2.0", "url": "https://example.org"}])
    )


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "make", make_small_data)
        patch.setenv("XDG_STATE_HOME", str(out / "state"))
        patch.setattr("examples.emoji.report.MAP_CLASSES", 6)
        demo.run(demo.Folders(out), 0.0, ["loop.epochs=2"])
    document: dict[str, Any] = json.loads((out / "report.json").read_text())
    return document, out


@pytest.mark.timeout(600)
def test_every_figure_of_the_report_is_there_and_possible(report: tuple[dict[str, Any], Path]) -> None:
    document, _ = report
    for name in ("zero_shot", "trained", "with_dba"):
        figures = document[name]
        low, high = figures["map_ci95"]
        assert 0 <= low <= figures["map"] <= high <= 1
        assert 0 <= figures["r1"] <= figures["r5"] <= 1
    assert document["with_dba"]["weights"] == [1.0, 0.75, 0.5, 0.25]
    low, high = document["gain_over_zero_shot_ci95"]
    assert low <= document["trained"]["map"] - document["zero_shot"]["map"] <= high
    assert document["model"]["space"].startswith("ls1:")
    assert [epoch["epoch"] for epoch in document["training"]["epochs"]] == [0, 1, 2]
    assert set(document["seconds"]) >= {"install", "data", "train", "embed", "index", "rank", "total"}
    peaks = document["peak_rss_mib"]
    assert all(peaks[role] > 20 for role in ("trainer", "embedder", "indexer", "trainer: worker"))


def test_the_index_is_annoy_and_its_recall_was_measured(report: tuple[dict[str, Any], Path]) -> None:
    index = report[0]["index"]
    assert (index["engine"], index["forced"], index["items"]) == ("annoy", True, 5 * TEST_CLASSES)
    assert index["search_k"] > 0
    assert 0 < index["recall_at_10_vs_exact"] <= 1


def test_the_example_finds_its_own_kind_first(report: tuple[dict[str, Any], Path]) -> None:
    example = report[0]["search_example"]
    assert example["hits"][0]["label"] == example["query"].split("/")[0]
    assert [hit["score"] for hit in example["hits"]] == sorted((hit["score"] for hit in example["hits"]), reverse=True)


def test_the_submission_has_a_row_for_every_query_and_ranks_every_reference(report: tuple[dict[str, Any], Path]) -> None:
    document, out = report
    rows = [line.split(",") for line in (out / "submission.csv").read_text().splitlines()]
    assert document["submission"]["rows"] == len(rows) == 2 * TEST_CLASSES
    assert {name for name, _ in rows} == {path.stem for path in (out / "flat" / "queries").iterdir()}
    references = {path.stem for path in (out / "flat" / "references").iterdir()}
    assert all(set(ranked.split()) == references for _, ranked in rows)


def test_the_page_shows_charts_maps_and_gallery(report: tuple[dict[str, Any], Path]) -> None:
    page = (report[1] / "report.html").read_text()
    assert page.count("<svg") == 4
    assert page.count('class="query"') >= 8
    assert page.count("<image ") == 2 * TEST_CLASSES * len(VENDORS)
    assert "http-equiv" not in page
    assert 'src="http' not in page


def test_the_servers_are_gone(report: tuple[dict[str, Any], Path]) -> None:
    servers = str(report[1] / "servers")
    assert not [p for p in psutil.process_iter(["cmdline"]) if servers in " ".join(p.info["cmdline"] or [])]
