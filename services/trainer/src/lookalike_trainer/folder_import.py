"""A folder that the server can read, as a dataset: a folder per class, everything below it a picture of that class.

Hidden files, and files that are no pictures by their first bytes, are passed over. Links are followed as long as they stay below the roots.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lookalike_images import sniff_format
from lookalike_runtime.errors import InvalidArgument, NotFound, PermissionDenied, invalid_field
from lookalike_trainer.blobs import BlobStore
from lookalike_trainer.manifest import MAX_PICTURE_BYTES, Entry, Manifest, ManifestDraft

MAX_URI_BYTES = 4 << 10
_SNIFFED = 4 << 10


def folder_of(uri: str, roots: Sequence[Path]) -> Path:
    """The folder that a `file://` URI names, resolved.

    Raises:
        InvalidArgument: it is no such URI.
        PermissionDenied: it is not below a root (OUTSIDE_ROOTS).
        NotFound: there is no such folder (FOLDER_NOT_FOUND).
    """
    try:
        parts = urlsplit(uri)
        path = Path(unquote(parts.path, errors="surrogateescape"))
        valid = (
            parts.scheme == "file" and parts.netloc in {"", "localhost"} and path.is_absolute() and not parts.query and not parts.fragment
        )
    except ValueError:
        valid = False
    if not valid or len(uri.encode()) > MAX_URI_BYTES or "\0" in str(path):
        raise invalid_field("uri", f"{uri[:80]!r} is no `file://` and an absolute path, at most {MAX_URI_BYTES} bytes")
    folder = _resolved_inside(path, roots)
    if not folder.is_dir():
        raise NotFound("FOLDER_NOT_FOUND", f"there is no folder {path} on the server")
    return folder


def import_folder(folder: Path, roots: Sequence[Path], blobs: BlobStore) -> Manifest:
    """Copy the pictures of a folder into the store and list them.

    Raises:
        InvalidArgument: no picture in a class folder (EMPTY_DATASET), or one that is past a limit.
        PermissionDenied: a link leads out of the roots (OUTSIDE_ROOTS).
        ResourceExhausted: no room for the pictures (DISK_FULL).
    """
    draft = ManifestDraft()
    with blobs.receive() as receiver:
        for path in _files_below(folder, roots, (folder.resolve(),)):
            relative = path.relative_to(folder)
            if len(relative.parts) > 1 and _is_picture(path):
                content = _read(path, str(relative))
                draft.add("uri", Entry(relative.as_posix(), relative.parts[0], receiver.add(content), len(content)))
    try:
        return draft.finish()
    except InvalidArgument as error:
        if error.reason != "EMPTY_DATASET":
            raise
        raise InvalidArgument(
            "EMPTY_DATASET", f"{folder} holds no picture in a class folder: lay them out as {folder}/CLASS/PICTURE"
        ) from None


def _files_below(folder: Path, roots: Sequence[Path], above: tuple[Path, ...]) -> Iterator[Path]:
    """Files below a folder, sorted; `above` are the resolved folders on the way, so that no circle of links is walked."""
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        target = _resolved_inside(path, roots) if path.is_symlink() else path
        if target.is_file():
            yield path
        elif target.is_dir() and (resolved := path.resolve()) not in above:
            yield from _files_below(path, roots, (*above, resolved))


def _resolved_inside(path: Path, roots: Sequence[Path]) -> Path:
    resolved = path.resolve()
    if not any(resolved.is_relative_to(root.resolve()) for root in roots):
        raise PermissionDenied("OUTSIDE_ROOTS", f"{path} is not below a folder that the server may import from: push the pictures instead")
    return resolved


def _is_picture(path: Path) -> bool:
    with path.open("rb") as file:
        return sniff_format(file.read(_SNIFFED)) is not None


def _read(path: Path, relative: str) -> bytes:
    size = path.stat().st_size
    if size > MAX_PICTURE_BYTES:
        raise invalid_field("uri", f"{relative!r} has {size} bytes, a picture at most {MAX_PICTURE_BYTES}: shrink or remove it")
    return path.read_bytes()
