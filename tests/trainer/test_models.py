from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from lookalike_model import registry
from lookalike_model.registry import RegistryReader
from lookalike_runtime.errors import Aborted, AlreadyExists, DataLoss, FailedPrecondition, InvalidArgument, NotFound
from lookalike_trainer.job_spec import EnsembleMember, EnsembleSpec, ProfileSpec, Start, spec_from_json, spec_to_json
from lookalike_trainer.models import Making, Models, ModelVersion, Origin
from lookalike_trainer.outcome import Result, ResultProfile

from .parts import Parts

PROFILES = {"plain": ResultProfile(fingerprint="ls1:" + "0" * 64, dim=8)}
RESULT = Result(metrics={"heldout_map": 0.5}, profiles=PROFILES, default_profile="plain", notes=("n",))


def publish(parts: Parts, model: str, job: str, text: str = "{}", origin: Origin = Origin.IMPORTED) -> ModelVersion:
    bundle = parts.folder / f"bundle-{job}"
    bundle.mkdir(exist_ok=True)
    (bundle / "config.json").write_text(text)
    return parts.models.publish(Making(job, model, origin, ""), bundle, RESULT)


def published(parts: Parts) -> dict[str, list[str]]:
    return {name: list(model.versions) for name, model in RegistryReader(parts.url).index().models.items()}


def bundles(parts: Parts) -> list[str]:
    return sorted(path.name for path in (parts.folder / "registry" / "bundles").iterdir())


def test_a_version_is_published_whole(parts: Parts) -> None:
    version = publish(parts, "shoes", "a1", "{ }")
    assert (version.name, version.size) == ("models/shoes/versions/1", 3)
    assert parts.models.get("shoes", None) == parts.models.get("shoes", 1) == parts.models.made_by("a1") == version
    folder = parts.models.bundle("shoes", 1)
    assert (folder / "config.json").read_text() == "{ }"
    told = RegistryReader(parts.url).index().models["shoes"].versions["1"]
    assert (told.default_profile, told.profiles["plain"].dim, told.create_time[-1]) == ("plain", 8, "Z")


def test_each_change_of_the_index_has_a_higher_sequence(parts: Parts) -> None:
    sequences = [0]
    for change in (
        lambda: publish(parts, "a", "a1"),
        lambda: publish(parts, "a", "a2"),
        lambda: parts.models.delete("a", 1),
    ):
        change()
        sequences.append(RegistryReader(parts.url).index().sequence)
    parts.models.publish_index()
    assert RegistryReader(parts.url).index().sequence == sequences[-1]
    assert sequences == sorted(set(sequences))


def test_models_and_versions_are_listed_in_pages(parts: Parts) -> None:
    for model, job in (("b", "1"), ("a", "2"), ("b", "3"), ("b", "4")):
        publish(parts, model, job)
    assert [(version.name, count) for version, count in parts.models.page("", 10)] == [
        ("models/a/versions/1", 1),
        ("models/b/versions/3", 3),
    ]
    assert [version.model for version, _ in parts.models.page("a", 1)] == ["b"]
    assert [version.number for version in parts.models.versions("b", None, 2)] == [3, 2]
    assert [version.number for version in parts.models.versions("b", 2, 2)] == [1]
    with pytest.raises(NotFound):
        parts.models.versions("c", None, 2)


def test_a_deleted_version_is_gone_and_its_number_never_comes_back(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "shoes", "a2")
    parts.models.delete("shoes", 2)
    assert (published(parts), bundles(parts)) == ({"shoes": ["1"]}, ["a1"])
    assert publish(parts, "shoes", "a3").number == 3
    parts.models.delete("shoes", None)
    assert (published(parts), bundles(parts)) == ({}, [])
    assert publish(parts, "shoes", "a4").number == 4
    for number in (1, 9):
        with pytest.raises(NotFound, match=f"versions/{number}"):
            parts.models.delete("shoes", number)


def ensemble_of(*members: tuple[str, int, str | None]) -> EnsembleSpec:
    return EnsembleSpec(model="both", members=tuple(EnsembleMember(model=m, version=v, profile=p, weight=1.0) for m, v, p in members))


@pytest.mark.parametrize("number", [1, None])
def test_a_version_that_becomes_part_of_an_ensemble_stays(parts: Parts, number: int | None) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "boots", "a2")
    job = parts.admission.create("r", ensemble_of(("boots", 1, None), ("shoes", 1, None)))
    assert spec_from_json(spec_to_json(job.spec)) == job.spec
    with pytest.raises(FailedPrecondition, match=job.uid) as caught:
        parts.models.delete("shoes", number)
    assert caught.value.reason == "MODEL_IN_USE"
    told = parts.folders.prepare(job, 0)
    paths = [member["path"] for member in json.loads((told / "job.json").read_text())["members"]]
    assert [Path(path).name for path in paths] == ["a2", "a1"]


def test_ensemble_of_what_is_not_there_or_is_one_itself_is_refused(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    with pytest.raises(NotFound, match="boots"):
        parts.admission.create("r1", ensemble_of(("shoes", 1, None), ("boots", 1, None)))
    with pytest.raises(InvalidArgument, match="no profile 'best'"):
        parts.admission.create("r2", ensemble_of(("shoes", 1, None), ("shoes", 1, "best")))
    publish(parts, "both", "a2", origin=Origin.ENSEMBLE)
    with pytest.raises(InvalidArgument, match="name its members"):
        parts.admission.create("r3", ensemble_of(("shoes", 1, None), ("both", 1, None)))


def profile_of(model: str, version: int, profile: str = "tuned") -> ProfileSpec:
    return ProfileSpec(
        model=model,
        start=Start(kind="bundle", model=model, version=version),
        profile=profile,
        tap="pool",
        views=("identity", "flip"),
        project_dim=4,
        dataset="pictures",
        revision=None,
        default_profile=False,
    )


def test_a_version_that_gets_a_profile_stays_and_so_does_the_dataset(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    with pytest.raises(NotFound, match="datasets/pictures"):
        parts.admission.create("r0", profile_of("shoes", 1))
    parts.commit("pictures", {"a/1": b"1", "b/1": b"2"})
    requested = profile_of("shoes", 1)
    job = parts.admission.create("r", requested)
    assert job.spec == requested.model_copy(update={"revision": 1})
    assert parts.admission.create("r", requested).uid == job.uid
    assert spec_from_json(spec_to_json(job.spec)) == job.spec
    with pytest.raises(FailedPrecondition, match=job.uid):
        parts.models.delete("shoes", 1)
    with pytest.raises(FailedPrecondition, match=job.uid):
        parts.datasets.delete("pictures")
    told = json.loads((parts.folders.prepare(job, 0) / "job.json").read_text())
    assert (told["label"], told["dataset"]["revision"], told["metrics"]) == ("models/shoes/versions/1", 1, {"heldout_map": 0.5})


def test_a_profile_of_an_ensemble_or_of_a_name_that_is_taken_is_refused(parts: Parts) -> None:
    parts.commit("pictures", {"a/1": b"1", "b/1": b"2"})
    publish(parts, "shoes", "a1")
    with pytest.raises(AlreadyExists, match="it has: plain") as caught:
        parts.admission.create("r1", profile_of("shoes", 1, "plain"))
    assert caught.value.reason == "PROFILE_EXISTS"
    with pytest.raises(NotFound, match="versions/2"):
        parts.admission.create("r2", profile_of("shoes", 2))
    publish(parts, "both", "a2", origin=Origin.ENSEMBLE)
    with pytest.raises(InvalidArgument, match="is an ensemble"):
        parts.admission.create("r3", profile_of("both", 1))


@pytest.mark.parametrize("number", [1, None])
def test_a_version_that_a_job_starts_from_stays(parts: Parts, number: int | None) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "shoes", "a2")
    parts.commit("shoes", {"a/1": b"1", "b/1": b"2"})
    job = parts.admission.create("r", parts.train_spec(start=Start(kind="bundle", model="shoes", version=1)))
    with pytest.raises(FailedPrecondition, match=job.uid) as caught:
        parts.models.delete("shoes", number)
    assert caught.value.reason == "MODEL_IN_USE"
    parts.models.delete("shoes", 2)
    parts.jobs.request_cancel(job.uid)
    parts.models.delete("shoes", number)


def test_an_index_that_cannot_be_written_leaves_nothing(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(url: str, index: registry.Index) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(registry, "write_index", full)
    with pytest.raises(OSError, match="No space"):
        publish(parts, "shoes", "a1")
    monkeypatch.undo()
    assert bundles(parts) == []
    assert parts.models.made_by("a1") is None
    assert publish(parts, "shoes", "a1").number == 2


def test_what_a_killed_server_left_under_the_job_is_replaced(parts: Parts) -> None:
    leftover = parts.folder / "leftover"
    leftover.mkdir()
    (leftover / "config.json").write_text("half done")
    registry.publish_bundle(leftover, parts.url, "a1")
    publish(parts, "shoes", "a1", "whole")
    assert (parts.models.bundle("shoes", 1) / "config.json").read_text() == "whole"


def test_the_next_start_finishes_what_a_kill_interrupted(reopen: Callable[[], Parts], monkeypatch: pytest.MonkeyPatch) -> None:
    parts = reopen()
    publish(parts, "shoes", "a1")
    publish(parts, "boots", "b1")

    def killed(url: str, index: registry.Index) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "write_index", killed)
    with pytest.raises(KeyboardInterrupt):
        parts.models.delete("shoes", None)
    monkeypatch.undo()
    assert set(published(parts)) == {"boots", "shoes"}
    again = reopen()
    again.models.publish_index()
    assert (published(again), bundles(again)) == ({"boots": ["1"]}, ["b1"])


def test_an_index_that_cannot_be_read_is_written_anew(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    (parts.folder / "registry" / "registry.json").write_text("{")
    parts.models.publish_index()
    assert published(parts) == {"shoes": ["1"]}


def test_a_bundle_goes_only_when_no_index_names_it(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(parts, "shoes", "a1")
    steps: list[str] = []

    def traced(name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            steps.append(name)
            return real(*arguments)

        return call

    monkeypatch.setattr(registry, "write_index", traced("index", registry.write_index))
    monkeypatch.setattr(registry, "remove_bundle", traced("bundle", registry.remove_bundle))
    parts.models.delete("shoes", 1)
    assert steps == ["index", "bundle"]


def test_a_bundle_from_elsewhere_is_cached(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "trainer")
    models = Models(parts.database, parts.jobs, f"memory://{tmp_path.name}", tmp_path / "cache")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text("{}")
    models.publish(Making("a1", "shoes", Origin.TRAINED, "ld1:x"), bundle, RESULT)
    assert models.bundle("shoes", 1) == tmp_path / "cache" / "a1"
    parts.database.close()


def aliases(parts: Parts, model: str) -> dict[str, str]:
    return dict(RegistryReader(parts.url).index().models[model].aliases)


def test_an_alias_moves_and_is_published(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "shoes", "a2")
    first = parts.models.set_alias("shoes", "production", 1)
    assert aliases(parts, "shoes") == {"production": "1"}
    moved = parts.models.set_alias("shoes", "production", 2, first.etag)
    assert (moved.number, aliases(parts, "shoes")) == (2, {"production": "2"})
    assert moved.etag != first.etag
    assert parts.models.set_alias("shoes", "production", 2).etag == moved.etag
    parts.models.delete_alias("shoes", "production", moved.etag)
    assert aliases(parts, "shoes") == {}
    assert parts.models.set_alias("shoes", "production", 1).etag not in {first.etag, moved.etag}


def test_an_alias_that_has_moved_is_not_overwritten_by_who_read_it_before(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "shoes", "a2")
    read = parts.models.set_alias("shoes", "production", 1)
    parts.models.set_alias("shoes", "production", 2)
    for change in (
        lambda: parts.models.set_alias("shoes", "production", 1, read.etag),
        lambda: parts.models.delete_alias("shoes", "production", read.etag),
        lambda: parts.models.set_alias("shoes", "new", 1, read.etag),
    ):
        with pytest.raises(Aborted, match="look again"):
            change()
    assert aliases(parts, "shoes") == {"production": "2"}


def test_an_alias_names_a_version_that_is_there(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    with pytest.raises(NotFound, match="versions/7"):
        parts.models.set_alias("shoes", "production", 7)
    with pytest.raises(NotFound, match="no alias 'production'"):
        parts.models.aliases.get("shoes", "production")


@pytest.mark.parametrize("number", [1, None])
def test_what_an_alias_names_is_deleted_only_by_force(parts: Parts, number: int | None) -> None:
    publish(parts, "shoes", "a1")
    publish(parts, "shoes", "a2")
    parts.models.set_alias("shoes", "production", 1)
    with pytest.raises(FailedPrecondition, match="shoes@production") as caught:
        parts.models.delete("shoes", number)
    assert caught.value.reason == "MODEL_ALIASED"
    parts.models.delete("shoes", number, force=True)
    assert not parts.models.aliases.of("shoes")


def test_a_bundle_that_was_edited_by_hand_is_refused(parts: Parts) -> None:
    publish(parts, "shoes", "a1")
    (parts.folder / "registry" / "bundles" / "a1" / "config.json").write_text('{"edited": true}')
    with pytest.raises(DataLoss, match="checksum"):
        parts.models.bundle("shoes", 1)
