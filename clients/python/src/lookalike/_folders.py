"""Finding the pictures of a folder, and saying what of it was left out and why."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from lookalike._exceptions import InputError
from lookalike_images import sniff_format

MAX_PICTURE_BYTES = 15 * 1024 * 1024
MAX_ID_BYTES = 512
MAX_LABEL_BYTES = 512

_SYSTEM_NAMES = frozenset({"thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "$recycle.bin", "system volume information"})
_HEAD_BYTES = 4096


@dataclass(frozen=True)
class PictureFile:
    """A picture of a folder. `id` is its path inside the folder with `/` between parts; `label` is empty where there is none."""

    id: str
    path: Path
    label: str
    size_bytes: int


@dataclass(frozen=True)
class LeftOut:
    """A file that is not used. `reason` is stable and upper-case, for programs."""

    id: str
    reason: str
    message: str


@dataclass(frozen=True)
class Listing:
    """What a folder holds: `pictures` ordered by id bytewise, other files in `left_out`; hidden and system files are only counted."""

    root: Path
    pictures: tuple[PictureFile, ...]
    left_out: tuple[LeftOut, ...] = ()
    hidden_count: int = 0

    @property
    def labels(self) -> Counter[str]:
        """Pictures by label."""
        return Counter(picture.label for picture in self.pictures)

    def labelled(self) -> Listing:
        """Return it without pictures that have no label, which are left out.

        Raises InputError where nothing is left, or where all is of one class.
        """
        no_label = tuple(LeftOut(each.id, "NO_LABEL", "it lies in no class folder") for each in self.pictures if not each.label)
        rest = replace(self, pictures=tuple(each for each in self.pictures if each.label), left_out=(*self.left_out, *no_label))
        if not rest.pictures:
            raise InputError(
                f"{self.root} has no class folders: put the pictures of each class into a folder of its own", reason="NO_LABEL"
            )
        if len(rest.labels) == 1:
            (only,) = rest.labels
            raise InputError(f"{self.root} has one class only, {only!r}: two or more are needed to tell apart", reason="TOO_FEW_CLASSES")
        return rest


@dataclass
class _Found:
    pictures: list[PictureFile] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    hidden_count: int = 0

    def leave_out(self, name: str, reason: str, message: str) -> None:
        self.left_out.append(LeftOut(_printable(name), reason, message))


def scan(root: Path) -> Listing:
    """Return the pictures below the folder `root`, each labelled with its first-level folder.

    Raises InputError if `root` is no folder or holds no picture.
    """
    if not root.is_dir():
        raise InputError(f"{root} is no folder" if root.exists() else f"there is no folder {root}", reason="NO_FOLDER")
    found = _Found()
    inside = root.resolve()
    for path, name in _walk(root, found):
        _classify(path, name, inside, found)
    return _listing(root, found)


def scan_csv(file: Path) -> Listing:
    """Return the pictures that a CSV file lists, one line `path,label` each; paths are relative to its folder.

    A first line that says `path,label` is a header. Raises InputError naming the line for anything that is not of this form.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read: {error}", reason="BAD_CSV") from None
    root, found, seen = file.parent, _Found(), dict[str, int]()
    inside = root.resolve()
    for number, row in enumerate(csv.reader(text.splitlines()), start=1):
        if not row or (number == 1 and [each.strip().lower() for each in row] == ["path", "label"]):
            continue
        name, label = _csv_row(file, number, row)
        if name in seen:
            raise InputError(f"{file}, line {number}: {name} stands in line {seen[name]} already", reason="BAD_CSV")
        seen[name] = number
        _classify(root / name, name, inside, found, label)
    return _listing(file, found)


def _csv_row(file: Path, number: int, row: list[str]) -> tuple[str, str]:
    if len(row) != 2 or not row[0].strip() or not row[1].strip():
        raise InputError(f"{file}, line {number}: {','.join(row)!r} is not of the form path,label", reason="BAD_CSV")
    name, label = row[0].strip(), row[1].strip()
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise InputError(f"{file}, line {number}: {name} leads out of {file.parent}", reason="LEADS_OUT")
    if not (file.parent / name).exists():
        raise InputError(f"{file}, line {number}: there is no file {name} in {file.parent}", reason="BAD_CSV")
    return Path(name).as_posix(), label


def _walk(root: Path, found: _Found) -> Iterator[tuple[Path, str]]:
    """Yield files with their names relative to `root`; hidden and system ones are counted, linked folders left out."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        for name in sorted(folders):
            if _is_hidden(name):
                found.hidden_count += 1
            elif (here / name).is_symlink():
                found.leave_out((here / name).relative_to(root).as_posix(), "LINKED_FOLDER", "links to folders are not followed")
        folders[:] = [name for name in sorted(folders) if not _is_hidden(name)]
        for name in sorted(files):
            if _is_hidden(name):
                found.hidden_count += 1
            else:
                yield here / name, (here / name).relative_to(root).as_posix()


def _is_hidden(name: str) -> bool:
    return name.startswith((".", "~$")) or name.lower() in _SYSTEM_NAMES


def _classify(path: Path, name: str, inside: Path, found: _Found, label: str | None = None) -> None:
    if len(os.fsencode(name)) > MAX_ID_BYTES or _printable(name) != name:
        return found.leave_out(name, "BAD_NAME", f"its name is no UTF-8, or longer than {MAX_ID_BYTES} bytes: rename it")
    first, slash, _ = name.partition("/")
    label = label if label is not None else first if slash else ""
    if len(label.encode()) > MAX_LABEL_BYTES:
        return found.leave_out(name, "BAD_NAME", f"its label is longer than {MAX_LABEL_BYTES} bytes")
    try:
        if not path.resolve().is_relative_to(inside):
            return found.leave_out(name, "LEADS_OUT", f"it is a link that leads out of {inside}")
        if not path.is_file():
            return found.leave_out(name, "NOT_A_FILE", "it is no regular file")
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        return found.leave_out(name, "NOT_READABLE", f"it cannot be read: {error.strerror}")
    if not head:
        return found.leave_out(name, "EMPTY", "it has 0 bytes")
    if sniff_format(head) is None:
        return found.leave_out(name, "NOT_A_PICTURE", "it is no picture of a known format")
    if size > MAX_PICTURE_BYTES:
        return found.leave_out(name, "TOO_MANY_BYTES", f"it has {size:,} bytes, the limit is {MAX_PICTURE_BYTES:,}")
    found.pictures.append(PictureFile(name, path, label, size))
    return None


def _listing(source: Path, found: _Found) -> Listing:
    if not found.pictures:
        others = f" ({len(found.left_out)} other files, {found.hidden_count} hidden)" if found.left_out or found.hidden_count else ""
        raise InputError(f"{source} holds no picture{others}: use JPEG, PNG, WebP, HEIC, GIF, BMP, TIFF or AVIF", reason="NO_PICTURE")
    pictures = sorted(found.pictures, key=lambda each: each.id.encode())
    return Listing(source, tuple(pictures), tuple(found.left_out), found.hidden_count)


def _printable(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "replace")
