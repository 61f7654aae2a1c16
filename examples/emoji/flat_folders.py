"""Flat folders for a submission: no labels, and a name for each picture that tells nothing to the ranking."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def flatten(source: Path, target: Path) -> int:
    """Link every `source/<class>/<vendor>.png` as `target/<class>--<vendor>.png`; returns how many. Replaces `target`."""
    if target.exists():
        shutil.rmtree(target)
    target.mkdir(parents=True)
    pictures = sorted(source.glob("*/*.png"))
    for picture in pictures:
        os.link(picture, target / f"{picture.parent.name}--{picture.name}")
    return len(pictures)
