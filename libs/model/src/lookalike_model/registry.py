"""The registry of models: a prefix under an fsspec URL that the trainer writes and embedders poll. Needs no torch.

registry.json                 Index: models, versions, aliases
bundles/UID/...               a bundle's files
bundles/UID/manifest.json     their checksums, written last: a version exists once this does
"""

import hashlib
import json
import os
import shutil
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, Literal, TypeVar, cast

from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from lookalike_model.names import check_name
from lookalike_model.records import Record, first_problems

INDEX, MANIFEST = "registry.json", "manifest.json"
_MAX_JSON_BYTES = 64 << 20
_MAX_FILES = 256
_CHUNK = 1 << 20
_T = TypeVar("_T")

Name = Annotated[str, AfterValidator(check_name)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class RegistryError(ValueError):
    """What is published cannot be read or trusted; the message names the file and what is wrong with it."""


class PublishedProfile(Record):
    """The space that a version's profile makes."""

    fingerprint: str
    dim: int


class Version(Record):
    """A published version; it never changes.

    Attributes:
        path: of its bundle, under the registry's URL.
        manifest_sha256: of its manifest's bytes.
        create_time: RFC 3339, UTC.
    """

    path: str
    manifest_sha256: Sha256
    create_time: str
    default_profile: str
    profiles: dict[str, PublishedProfile]


class Model(Record):
    """A model's versions by number, and aliases that name one of them."""

    aliases: dict[Name, str]
    versions: dict[str, Version]


class Index(Record):
    """`registry.json`. `sequence` rises with every change."""

    format: Literal[1] = 1
    sequence: int = 0
    models: dict[Name, Model] = Field(default_factory=dict)


class ManifestFile(Record):
    """Checksum and size in bytes of one file."""

    sha256: Sha256
    size: int = Field(ge=0)


Manifest = dict[str, ManifestFile]
"""`manifest.json`: every file of a bundle but itself, by its path inside the bundle."""


_INDEX, _MANIFEST = TypeAdapter(Index), TypeAdapter(Manifest)


class RegistryReader:
    """Reads what is published under a URL.

    Args:
        url: an fsspec URL, or a local path.
    """

    def __init__(self, url: str) -> None:
        self._files, self._root = _open(url)

    def index(self) -> Index:
        """What is published now; empty where nothing was ever published.

        Raises:
            RegistryError: the index cannot be read.
        """
        path = f"{self._root}/{INDEX}"
        if not self._files.exists(path):
            return Index()
        return _parse(_INDEX, self._small_file(path), INDEX)

    def fetch(self, version: Version, cache: Path) -> Path:
        """A version's bundle as a local folder, every checksum compared.

        A local registry's own folder is returned; from elsewhere the files are copied into the cache once.

        Raises:
            RegistryError: a file is missing, was changed, or does not belong there.
        """
        uid = _uid(version.path)
        if isinstance(self._files, LocalFileSystem):
            folder = Path(self._root) / version.path
            _check_folder(folder, self._manifest(version))
            return folder
        folder = cache / uid
        manifest = self._manifest(version)
        if folder.exists():
            try:
                _check_folder(folder, manifest)
            except RegistryError:
                shutil.rmtree(folder)
            else:
                return folder
        aside = cache / f".{uid}.{os.getpid()}.part"
        shutil.rmtree(aside, ignore_errors=True)
        for name in manifest:
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            self._files.get_file(f"{self._root}/{version.path}/{name}", str(aside / name))
        _check_folder(aside, manifest)
        try:
            aside.rename(folder)
        except OSError:  # another server over the same cache was quicker
            shutil.rmtree(aside)
            _check_folder(folder, manifest)
        return folder

    def _manifest(self, version: Version) -> Manifest:
        path = f"{self._root}/{version.path}/{MANIFEST}"
        if not self._files.exists(path):
            raise RegistryError(f"{version.path} has no {MANIFEST}: it was never published whole, or was deleted")
        data = self._small_file(path)
        if hashlib.sha256(data).hexdigest() != version.manifest_sha256:
            raise RegistryError(f"{version.path}/{MANIFEST} is not the one that was published")
        manifest = _parse(_MANIFEST, data, MANIFEST)
        for name in manifest:
            _check_inside(name)
        return manifest

    def _small_file(self, path: str) -> bytes:
        if self._files.size(path) > _MAX_JSON_BYTES:
            raise RegistryError(f"{path} is larger than {_MAX_JSON_BYTES >> 20} MiB")
        return bytes(self._files.cat_file(path))


def bundle_files(folder: Path) -> list[str]:
    """Each file in a bundle's folder but its manifest, by its path inside the folder, sorted.

    Raises:
        RegistryError: more files than a bundle has.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / MANIFEST)
    if len(paths) > _MAX_FILES:
        raise RegistryError(f"{folder} holds {len(paths)} files, a bundle at most {_MAX_FILES}")
    return [path.relative_to(folder).as_posix() for path in paths]


def manifest_of(folder: Path) -> Manifest:
    """Checksum and size of each file in a bundle's folder.

    Raises:
        RegistryError: more files than a bundle has.
    """
    return {name: _measure(folder / name) for name in bundle_files(folder)}


def check_against_manifest(folder: Path) -> None:
    """Compare a bundle's folder with the manifest that it was downloaded with.

    Raises:
        RegistryError: there is no manifest, or a file is missing, was changed, or does not belong there.
    """
    path = folder / MANIFEST
    if not path.is_file() or path.stat().st_size > _MAX_JSON_BYTES:
        raise RegistryError(f"the bundle has no {MANIFEST}, which a downloaded one has: download it again")
    _check_folder(folder, _parse(_MANIFEST, path.read_bytes(), MANIFEST))


def publish_bundle(folder: Path, url: str, uid: str) -> str:
    """Copy a bundle to `URL/bundles/UID`, its manifest last, and answer the manifest's SHA-256.

    Publishing the same again is harmless; locally the whole folder appears at once.

    Raises:
        ValueError: the uid is no name.
        RegistryError: other files are published under this uid.
    """
    check_name(uid, "bundle uid")
    files, root = _open(url)
    listed = manifest_of(folder)
    manifest = _json_bytes(_MANIFEST.dump_python(listed, mode="json"))
    target = f"{root}/bundles/{uid}"
    if files.exists(f"{target}/{MANIFEST}"):
        if files.cat_file(f"{target}/{MANIFEST}") != manifest:
            raise RegistryError(f"bundles/{uid} is published with other content; a version never changes")
    elif isinstance(files, LocalFileSystem):
        _publish_locally(folder, Path(target), manifest)
    else:
        for name in listed:
            files.put_file(str(folder / name), f"{target}/{name}")
        files.pipe_file(f"{target}/{MANIFEST}", manifest)
    return hashlib.sha256(manifest).hexdigest()


def write_index(url: str, index: Index) -> None:
    """Replace `registry.json`; a reader sees the old one or the new one."""
    files, root = _open(url)
    data = _json_bytes(index.model_dump(mode="json"))
    if isinstance(files, LocalFileSystem):
        path = Path(root) / INDEX
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_synced(path.with_name(f".{INDEX}.part"), data)
        path.with_name(f".{INDEX}.part").replace(path)
        _sync_folder(path.parent)
    else:
        files.pipe_file(f"{root}/{INDEX}", data)


def remove_bundle(url: str, path: str) -> None:
    """Remove a bundle that no index names any more, its manifest first; one that is not there is passed over.

    Args:
        path: of the bundle, under the URL.

    Raises:
        RegistryError: the path is no place of a bundle.
    """
    _uid(path)
    files, root = _open(url)
    if files.exists(f"{root}/{path}/{MANIFEST}"):
        files.rm_file(f"{root}/{path}/{MANIFEST}")
    if files.exists(f"{root}/{path}"):
        files.rm(f"{root}/{path}", recursive=True)


def _open(url: str) -> tuple[Any, str]:
    """The file system and the path in it. Listings are not cached: others write there too."""
    return cast("tuple[Any, str]", url_to_fs(url, use_listings_cache=False))


def _publish_locally(folder: Path, target: Path, manifest: bytes) -> None:
    aside = target.with_name(f".{target.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(target, ignore_errors=True)  # without a manifest it is nothing
    shutil.copytree(folder, aside, copy_function=_copy_synced)
    _write_synced(aside / MANIFEST, manifest)
    aside.rename(target)
    _sync_folder(target.parent)


def _check_folder(folder: Path, manifest: Manifest) -> None:
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()} - {MANIFEST}
    if odd := sorted(present ^ manifest.keys()):
        raise RegistryError(f"{folder.name}: missing from the bundle or from its {MANIFEST}: {', '.join(odd[:5])}")
    for name, expected in manifest.items():
        if _measure(folder / name) != expected:
            raise RegistryError(f"{folder.name}/{name} is not the file that was published (checksum)")


def _measure(path: Path) -> ManifestFile:
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return ManifestFile(sha256=digest.hexdigest(), size=size)


def _uid(path: str) -> str:
    parts = PurePosixPath(path).parts
    if len(parts) != 2 or parts[0] != "bundles":
        raise RegistryError(f"{path!r} is no place of a bundle; it must be bundles/UID")
    try:
        return check_name(parts[1], "bundle uid")
    except ValueError as error:
        raise RegistryError(str(error)) from error


def _check_inside(name: str) -> None:
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or path.as_posix() != name:
        raise RegistryError(f"{MANIFEST} names {name!r}, which is no path inside the bundle")


def _parse(kind: TypeAdapter[_T], data: bytes, name: str) -> _T:
    try:
        return kind.validate_json(data)
    except ValidationError as error:
        raise RegistryError(f"{name}: {first_problems(error)}") from error


def _json_bytes(document: Any) -> bytes:
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode()


def _copy_synced(source: str, target: str) -> str:
    with Path(source).open("rb") as original:
        return _write_synced(Path(target), original)


def _write_synced(path: Path, content: bytes | BinaryIO) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            shutil.copyfileobj(content, file)
        file.flush()
        os.fsync(file.fileno())
    return str(path)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
