"""A PCA fitted on a model's vectors of a dataset's pictures, none of which it was to be measured on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lookalike_model.bundle import Bundle, TrainingData
from lookalike_model.embedding_model import EmbeddingModel
from lookalike_model.profile import Profile
from lookalike_model.projection import Projection
from lookalike_retrieval import fit_pca
from lookalike_trainer.blobs import blob_path
from lookalike_trainer.training.dataset import Labels, Picture, describe_unreadable, read_pictures
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.events import EventLog
from lookalike_trainer.training.interruption import Interruption
from lookalike_trainer.training.job import DatasetReference
from lookalike_trainer.training.pixels import PixelStore
from lookalike_trainer.training.preparation import prepare_pixels
from lookalike_trainer.training.split import split_classes

MAX_PICTURES = 8_000
_BATCH = 32
_LEAST_SIZE = 16


@dataclass(frozen=True)
class Fitting:
    """What is fitted: `profile` has no projection yet, `name` is what it will be called, `dims` how many values are left."""

    bundle: Bundle
    profile: Profile
    dims: int
    dataset: DatasetReference
    name: str


@dataclass(frozen=True)
class Fitted:
    """The projection, how many pictures of how many classes it was fitted on, and sentences for the user about them."""

    projection: Projection
    pictures: int
    classes: int
    notes: tuple[str, ...]


def fit_projection(fitting: Fitting, scratch: Path, log: EventLog, stop: Interruption) -> Fitted:
    """Fit on at most `MAX_PICTURES` pictures, chosen at random where there are more.

    If the model was trained on the dataset, pictures of the classes that were held out and those that were left out are not used.

    Args:
        scratch: folder for pixels.

    Raises:
        JobError: TOO_FEW_PICTURES, TOO_MANY_UNREADABLE, or HELD_OUT_UNKNOWN if the classes that were held out cannot be told.
        Cancelled: the job was told to stop.
    """
    usable, which = _usable(fitting, _Loading(fitting, scratch / "readable", log, stop))
    _check_enough(fitting, len(usable))
    chosen = _sample(usable)
    model = _model(fitting)
    sizes = [spec.size for spec in model.inputs.specs]
    store = _Loading(fitting, scratch / "chosen", log, stop).load(chosen, sizes)
    unreadable = describe_unreadable(store.unreadable, len(chosen))
    _check_enough(fitting, len(store.pictures))
    vectors = _embed(model, store, sizes, log, stop)
    try:
        fitted = fit_pca(vectors, fitting.dims, max_rows=MAX_PICTURES)
    except ValueError as error:
        raise JobError(Reason.TOO_FEW_PICTURES, f"nothing can be fitted on {fitting.dataset.resource_name}: {error}") from error
    projection = Projection(torch.from_numpy(fitted.mean), torch.from_numpy(np.ascontiguousarray(fitted.components)))
    classes = len({picture.label for picture in store.pictures})
    told = f"The projection of `{fitting.name}` was fitted on {len(store.pictures)} pictures of {classes} classes of {which}."
    return Fitted(projection, len(store.pictures), classes, (told, unreadable) if unreadable else (told,))


class _Loading:
    """Decodes pictures as training does, and says how far it is."""

    def __init__(self, fitting: Fitting, scratch: Path, log: EventLog, stop: Interruption) -> None:
        self._fitting = fitting
        self._scratch = scratch
        self._log = log
        self._stop = stop

    def load(self, pictures: Sequence[Picture], sizes: Sequence[int]) -> PixelStore:
        blobs, spec = Path(self._fitting.dataset.blobs), self._fitting.bundle.preprocessing
        store = prepare_pixels(pictures, blobs, spec, sizes, self._scratch, self._log, self._stop)
        self._log.report("prepare", len(pictures), len(pictures), "pictures")
        return store


def _usable(fitting: Fitting, loading: _Loading) -> tuple[list[Picture], str]:
    """The pictures that may be fitted on, and a phrase that says which these are."""
    dataset, data = fitting.dataset, fitting.bundle.description.data
    if data is None:
        return read_pictures(dataset), f"{dataset.resource_name}, on which the model was not trained"
    if data.fingerprint != dataset.fingerprint:
        return read_pictures(dataset), (
            f"{dataset.resource_name}. The model was trained on datasets/{data.name}/revisions/{data.revision}: classes that were held out "
            "there may be among them, and figures measured on such classes with this profile would flatter"
        )
    pictures = _trained_or_held_out(dataset, data, loading)
    held_out = _held_out(fitting, data, pictures)
    which = f"{dataset.resource_name}, on which the model was trained"
    if held_out:
        which += f"; the {len(held_out)} classes that were held out were not used"
    return [picture for picture in pictures if picture.label not in held_out], which


def _trained_or_held_out(dataset: DatasetReference, data: TrainingData, loading: _Loading) -> list[Picture]:
    """The pictures that the split of the training was made of: those that can be read, without those that were left out."""
    if data.excluded_sha256:
        listed = blob_path(Path(dataset.blobs), data.excluded_sha256)
        if not listed.exists():
            raise _unknown(dataset, "the list of the pictures that its training left out is not on this server")
        dataset = dataset.model_copy(update={"excluded": str(listed)})
    pictures = read_pictures(dataset)
    if len(pictures) != data.pictures:
        pictures = list(loading.load(pictures, [_LEAST_SIZE]).pictures)
    return pictures


def _held_out(fitting: Fitting, data: TrainingData, pictures: Sequence[Picture]) -> frozenset[str]:
    """The classes that were held out, found again as the training found them."""
    if data.held_out_classes == 0:
        return frozenset()
    recipe = fitting.bundle.description.recipe
    asked = recipe.get("recipe")
    split = asked.get("split") if isinstance(asked, dict) else None
    share, seed = (split.get("held_out") if isinstance(split, dict) else None), recipe.get("seed")
    if not isinstance(share, int | float) or not isinstance(seed, int):
        raise _unknown(fitting.dataset, "its bundle does not say how they were chosen")
    labels = Labels.of(pictures)
    held_out = split_classes(labels.names, labels.counts, share, seed).held_out
    if (len(pictures), len(labels.names), len(held_out)) != (data.pictures, data.classes, data.held_out_classes):
        raise _unknown(fitting.dataset, f"{len(pictures)} of its pictures can be read now, {data.pictures} could then")
    return frozenset(labels.names[index] for index in held_out)


def _unknown(dataset: DatasetReference, why: str) -> JobError:
    message = (
        f"the model was trained on {dataset.resource_name}, but which classes were held out cannot be told any more: {why}. "
        "Name a dataset that it was not trained on"
    )
    return JobError(Reason.HELD_OUT_UNKNOWN, message)


def _check_enough(fitting: Fitting, pictures: int) -> None:
    if pictures <= fitting.dims:
        message = (
            f"a projection to {fitting.dims} values needs at least {fitting.dims + 1} pictures, and {fitting.dataset.resource_name} has "
            f"{pictures} that can be used: push more, name another dataset, or project to fewer values"
        )
        raise JobError(Reason.TOO_FEW_PICTURES, message)


def _sample(pictures: Sequence[Picture]) -> list[Picture]:
    if len(pictures) <= MAX_PICTURES:
        return list(pictures)
    rows = np.random.default_rng(0).choice(len(pictures), MAX_PICTURES, replace=False)
    return [pictures[row] for row in np.sort(rows)]


def _model(fitting: Fitting) -> EmbeddingModel:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return EmbeddingModel(fitting.bundle.network, fitting.bundle.preprocessing, fitting.name, fitting.profile, device=device)


def _embed(model: EmbeddingModel, store: PixelStore, sizes: Sequence[int], log: EventLog, stop: Interruption) -> NDArray[np.float32]:
    """float32 [pictures, d], unit rows."""
    total = len(store.pictures)
    log.report("evaluate", 0, total, "pictures")
    vectors = np.empty((total, model.dim), np.float32)
    for start in range(0, total, _BATCH):
        stop.check()
        rows = np.arange(start, min(start + _BATCH, total))
        vectors[rows] = model.embed_parts([store.rows(size, rows) for size in sizes])
        log.tick("evaluate", int(rows[-1]) + 1, total, "pictures")
    log.report("evaluate", total, total, "pictures")
    return vectors
