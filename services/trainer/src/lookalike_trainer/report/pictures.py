"""Small pictures that a page can hold."""

import base64
from collections.abc import Sequence
from pathlib import Path

from lookalike_images import PictureError, decode, thumbnail
from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training.dataset import Picture

_SIDE = 80
_BYTES = 4 << 10


class SmallPictures:
    """Pictures of a dataset by their path, each made once."""

    def __init__(self, pictures: Sequence[Picture], blobs: Path) -> None:
        self._sha256 = {picture.path: picture.sha256 for picture in pictures}
        self._blobs = blobs
        self._made: dict[str, str] = {}

    def uri(self, path: str) -> str:
        """A data URI of the picture; empty if it cannot be read."""
        sha256 = self._sha256[path]
        if sha256 not in self._made:
            self._made[sha256] = self._make(sha256)
        return self._made[sha256]

    def _make(self, sha256: str) -> str:
        try:
            small = thumbnail(decode(blob_path(self._blobs, sha256).read_bytes()), side=_SIDE, max_bytes=_BYTES)
        except (OSError, PictureError):
            return ""
        return f"data:image/webp;base64,{base64.b64encode(small).decode('ascii')}"
