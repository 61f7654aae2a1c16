"""The registry: what is published is whole, unchanged, and stays inside its folder."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from lookalike_model.names import check_name
from lookalike_model.registry import (
    Index,
    Model,
    PublishedProfile,
    RegistryError,
    RegistryReader,
    Version,
    manifest_of,
    publish_bundle,
    remove_bundle,
    write_index,
)

UID = "0123abcd"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    (folder / "golden").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "golden" / "vectors.safetensors").write_bytes(bytes(range(256)) * 100)
    return folder


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A bucket of a server that speaks S3; the environment says where it is, as it does in a cluster."""
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    told = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        fsspec.filesystem("s3").mkdir("models")
        yield "s3://models"
    server.stop()


@pytest.fixture(params=["local", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    match request.param:
        case "local":
            return str(tmp_path / "registry")
        case "memory":
            return f"memory://{tmp_path.name}/registry"
        case _:
            return f"{request.getfixturevalue('s3')}/{tmp_path.name}/registry"


def version(manifest_sha256: str, path: str = f"bundles/{UID}") -> Version:
    return Version(
        path=path,
        manifest_sha256=manifest_sha256,
        create_time="2024-01-01T00:00:00Z",
        default_profile="plain",
        profiles={"plain": PublishedProfile(fingerprint="ls1:" + "0" * 64, dim=4)},
    )


def test_a_published_bundle_is_fetched_whole(folder: Path, url: str, tmp_path: Path) -> None:
    published = publish_bundle(folder, url, UID)
    assert publish_bundle(folder, url, UID) == published
    for _ in range(2):
        fetched = RegistryReader(url).fetch(version(published), tmp_path / "cache")
        assert manifest_of(fetched) == manifest_of(folder)


def test_the_index_comes_back_as_written(folder: Path, url: str) -> None:
    reader = RegistryReader(url)
    assert reader.index() == Index(sequence=0, models={})
    entry = version(publish_bundle(folder, url, UID))
    index = Index(sequence=3, models={"shoes": Model(aliases={"production": "1"}, versions={"1": entry})})
    write_index(url, index)
    assert reader.index() == index


def test_a_changed_file_is_refused(folder: Path, url: str, tmp_path: Path) -> None:
    published = publish_bundle(folder, url, UID)
    with fsspec.open(f"{url}/bundles/{UID}/config.json", "wb") as file:
        file.write(b"[]")
    with pytest.raises(RegistryError, match=r"config\.json"):
        RegistryReader(url).fetch(version(published), tmp_path / "cache")


def test_a_changed_manifest_is_refused(folder: Path, url: str, tmp_path: Path) -> None:
    publish_bundle(folder, url, UID)
    with pytest.raises(RegistryError, match=r"manifest\.json is not the one"):
        RegistryReader(url).fetch(version("0" * 64), tmp_path / "cache")


def test_without_its_manifest_a_version_does_not_exist(folder: Path, url: str, tmp_path: Path) -> None:
    published = publish_bundle(folder, url, UID)
    files, root = fsspec.core.url_to_fs(url)
    files.rm(f"{root}/bundles/{UID}/manifest.json")
    with pytest.raises(RegistryError, match=r"no manifest\.json"):
        RegistryReader(url).fetch(version(published), tmp_path / "cache")
    assert publish_bundle(folder, url, UID) == published


def test_a_version_never_changes(folder: Path, url: str) -> None:
    publish_bundle(folder, url, UID)
    (folder / "config.json").write_text('{"other": 1}')
    with pytest.raises(RegistryError, match="never changes"):
        publish_bundle(folder, url, UID)


def test_a_removed_bundle_is_gone_and_removing_it_again_is_harmless(folder: Path, url: str, tmp_path: Path) -> None:
    published = publish_bundle(folder, url, UID)
    for _ in range(2):
        remove_bundle(url, f"bundles/{UID}")
        with pytest.raises(RegistryError, match="never published whole, or was deleted"):
            RegistryReader(url).fetch(version(published), tmp_path / "cache")
    assert publish_bundle(folder, url, UID) == published


@pytest.mark.parametrize("path", ["bundles", "bundles/..", "../bundles/x", "bundles/x/y", "/bundles/x"])
def test_only_the_place_of_a_bundle_is_removed(path: str, tmp_path: Path) -> None:
    with pytest.raises(RegistryError):
        remove_bundle(str(tmp_path), path)


def test_a_spoilt_cache_is_fetched_again(folder: Path, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/cached"
    entry = version(publish_bundle(folder, url, UID))
    cache = tmp_path / "cache"
    fetched = RegistryReader(url).fetch(entry, cache)
    (fetched / "config.json").write_text("spoilt")
    assert manifest_of(RegistryReader(url).fetch(entry, cache)) == manifest_of(folder)
    assert [path.name for path in cache.iterdir()] == [UID]


def test_two_servers_that_fetch_into_one_cache_at_once_both_get_the_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"memory://{tmp_path.name}/shared"
    entry = version(publish_bundle(folder, url, UID))
    cache = tmp_path / "cache"
    rename = Path.rename

    def beaten(aside: Path, target: Path) -> Path:
        shutil.copytree(aside, target)
        return rename(aside, target)

    monkeypatch.setattr(Path, "rename", beaten)
    assert manifest_of(RegistryReader(url).fetch(entry, cache)) == manifest_of(folder)
    assert [path.name for path in cache.iterdir()] == [UID]


def test_a_stray_file_is_refused(folder: Path, tmp_path: Path) -> None:
    url = str(tmp_path / "registry")
    entry = version(publish_bundle(folder, url, UID))
    (tmp_path / "registry" / "bundles" / UID / "code.py").write_text("")
    with pytest.raises(RegistryError, match=r"code\.py"):
        RegistryReader(url).fetch(entry, tmp_path / "cache")


@pytest.mark.parametrize("path", ["../outside", "bundles/../../x", "/etc", "bundles/a/b", "bundles/.."])
def test_a_version_cannot_point_outside(tmp_path: Path, path: str) -> None:
    with pytest.raises(RegistryError):
        RegistryReader(str(tmp_path)).fetch(version("0" * 64, path), tmp_path / "cache")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\\b", ""])
def test_a_manifest_cannot_name_files_outside(folder: Path, tmp_path: Path, name: str) -> None:
    url = str(tmp_path / "registry")
    publish_bundle(folder, url, UID)
    manifest = tmp_path / "registry" / "bundles" / UID / "manifest.json"
    data = json.dumps({name: {"sha256": "0" * 64, "size": 1}}).encode()
    manifest.write_bytes(data)
    with pytest.raises(RegistryError, match="no path inside"):
        RegistryReader(url).fetch(version(hashlib.sha256(data).hexdigest()), tmp_path / "cache")


@pytest.mark.parametrize("text", ["not json", '{"format": 2, "sequence": 1, "models": {}}', '{"surprise": 1}'])
def test_an_index_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "registry.json").write_text(text)
    with pytest.raises(RegistryError, match=r"registry\.json"):
        RegistryReader(str(tmp_path)).index()


@pytest.mark.parametrize("name", ["", "../x", "A", ".hidden", "a/b", "x" * 64, "a b", "ü", "a\n"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not allowed"):
        check_name(name)
    with pytest.raises(ValueError, match="not allowed"):
        publish_bundle(folder, str(tmp_path), name)


def test_publishing_needs_no_torch() -> None:
    code = "import sys, lookalike_model.registry, lookalike_model.names, lookalike_model.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_reader_sees_each_new_index_at_once(url: str) -> None:
    reader = RegistryReader(url)
    assert reader.index().sequence == 0
    for sequence in (1, 2):
        write_index(url, Index(sequence=sequence))
        assert reader.index().sequence == sequence
