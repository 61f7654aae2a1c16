"""All that the checks of a dataset's pictures find, as it is kept in `checks.json`."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lookalike_model.records import Record
from lookalike_retrieval import exact_topk
from lookalike_trainer.data_checks.alike_classes import alike_classes
from lookalike_trainer.data_checks.label_noise import LabelDoubt, doubt_labels
from lookalike_trainer.manifest_findings import LISTED, Copies, ManifestFindings, equal_pictures, inspect_manifest
from lookalike_trainer.training.dataset import Labels, Picture, Unreadable
from lookalike_trainer.training.pixels import PixelStore

LISTED_PAIRS = 50
SUSPECT_SHARE, MOST_SUSPECTS = 0.1, 10_000
_NEIGHBOURS = 5


class UnreadablePicture(Record):
    """A picture that could not be decoded, and why."""

    path: str
    reason: str


class AlikeClasses(Record):
    """Two classes that look like one: cosine between their pictures, and the mean of those within each."""

    first: str
    second: str
    between: float
    within: float


class Suspect(Record):
    """A picture whose label is doubtful, as a line of `suspects.csv`."""

    path: str
    label: str
    suspected_label: str
    score: float
    reason: str


class Findings(Record):
    """What was found.

    Attributes:
        dataset: `datasets/D/revisions/R`.
        vectors_of: whose vectors tell what looks alike.
        pictures: that could be read.
        compared: of them by their vectors; the others were too many.
        manifest: what the manifest shows.
        unreadable: the first of `unreadable_count`.
        same_pixels: groups of pictures that are equal once preprocessed, though their files differ; the first of them.
        both_sides: pictures that are equal and stand in a class that is trained on and in one that is held out.
        alike: pairs of classes that look like one, the most alike first.
        suspects: the most doubtful labels first.
    """

    dataset: str
    vectors_of: str
    pictures: int
    classes: int
    compared: int
    manifest: ManifestFindings
    unreadable: tuple[UnreadablePicture, ...]
    unreadable_count: int
    same_pixels: tuple[Copies, ...]
    both_sides: tuple[Copies, ...]
    alike: tuple[AlikeClasses, ...]
    suspects: tuple[Suspect, ...]

    def sentences(self) -> tuple[str, ...]:
        """The findings that a person should know, in a sentence each."""
        across = sum(1 for group in (*self.manifest.copies, *self.same_pixels) if group.across)
        counted = (
            (self.unreadable_count, "picture cannot be read", "pictures cannot be read"),
            (self.manifest.small_count, "class has fewer than three pictures", "classes have fewer than three pictures"),
            (self.manifest.copy_count, "picture is a copy of another", "pictures are copies of others"),
            (across, "picture stands in several classes", "pictures stand in several classes"),
            (len(self.alike), "pair of classes looks like one", "pairs of classes look like one"),
            (len(self.suspects), "label may be wrong", "labels may be wrong"),
        )
        return tuple(f"{count:,} {one if count == 1 else many}." for count, one, many in counted if count)


def check_data(
    dataset: str,
    vectors_of: str,
    pictures: Sequence[Picture],
    store: PixelStore,
    size: int,
    compared: NDArray[np.int64],
    vectors: NDArray[np.float32],
) -> Findings:
    """Look for all that can be wrong.

    Args:
        pictures: of the manifest, unreadable ones included.
        store: of those that could be read, with pixels of `size` × `size`.
        compared: [n], rows in the store.
        vectors: [n, d], unit rows of the compared pictures.
    """
    labels = Labels.of(store.pictures)
    classes, count = labels.of_row[compared], len(labels.names)
    pairs = alike_classes(vectors, classes, count, LISTED_PAIRS)
    return Findings(
        dataset=dataset,
        vectors_of=vectors_of,
        pictures=len(store.pictures),
        classes=count,
        compared=len(compared),
        manifest=inspect_manifest(pictures),
        unreadable=tuple(_unreadable(each) for each in store.unreadable[:LISTED]),
        unreadable_count=len(store.unreadable),
        same_pixels=tuple(_same_pixels(store, size)[:LISTED]),
        both_sides=(),
        alike=tuple(
            AlikeClasses(first=labels.names[p.first], second=labels.names[p.second], between=p.between, within=p.within) for p in pairs
        ),
        suspects=_suspects([store.pictures[row] for row in compared], labels.names, classes, vectors),
    )


def on_both_sides(pictures: Sequence[Picture], held_out: Sequence[str]) -> tuple[Copies, ...]:
    """Pictures, equal by content, that stand in a class that is held out and in another one."""
    apart = frozenset(held_out)
    groups = equal_pictures(pictures, [picture.sha256 for picture in pictures])
    return tuple(group for group in groups if 0 < len(apart.intersection(group.labels)) < len(group.labels))


def describe_fold_copies(pictures: Sequence[Picture], fold: Sequence[int]) -> str | None:
    """A sentence about pictures of a fold, given by rows, that are also among those trained on; None if there is none."""
    inside = set(fold)
    outside = {picture.sha256 for row, picture in enumerate(pictures) if row not in inside}
    both = [pictures[row].path for row in fold if pictures[row].sha256 in outside]
    if not both:
        return None
    what = "1 picture of the fold is" if len(both) == 1 else f"{len(both)} pictures of the fold are"
    return f"{what}, by content, among the pictures trained on too ({'; '.join(both[:3])}): the fold's score is too good for it."


def describe_both_sides(groups: Sequence[Copies]) -> str | None:
    """A sentence for the user; None if there is none."""
    if not groups:
        return None
    examples = "; ".join(" = ".join(group.paths[:3]) for group in groups[:3])
    what = "1 picture stands" if len(groups) == 1 else f"{len(groups)} pictures stand"
    return (
        f"{what} in a class that was trained on and in a held-out one ({examples}): the held-out figures flatter a little. "
        "Remove the copies, or leave them out with `--exclude`."
    )


def _unreadable(each: Unreadable) -> UnreadablePicture:
    return UnreadablePicture(path=each.path, reason=each.reason)


def _same_pixels(store: PixelStore, size: int) -> list[Copies]:
    digests = [
        hashlib.sha256(store.rows(size, np.array([row], dtype=np.int64)).tobytes()).hexdigest() for row in range(len(store.pictures))
    ]
    first: dict[str, str] = {}
    for picture, digest in zip(store.pictures, digests, strict=True):
        first.setdefault(digest, picture.sha256)
    mixed = {digest for picture, digest in zip(store.pictures, digests, strict=True) if picture.sha256 != first[digest]}
    kept = [(picture, digest) for picture, digest in zip(store.pictures, digests, strict=True) if digest in mixed]
    return equal_pictures([picture for picture, _ in kept], [digest for _, digest in kept])


def _suspects(
    pictures: Sequence[Picture], names: Sequence[str], classes: NDArray[np.int64], vectors: NDArray[np.float32]
) -> tuple[Suspect, ...]:
    doubt = doubt_labels(vectors, classes, len(names))
    most = min(round(SUSPECT_SHARE * len(pictures)), MOST_SUSPECTS)
    rows = np.argsort(-doubt.score, kind="stable")[:most]
    rows = rows[doubt.score[rows] > 0]
    nearest = exact_topk(vectors[rows], vectors, min(_NEIGHBOURS, len(vectors) - 1), exclude=rows).indices
    return tuple(_suspect(pictures[row], names, classes, classes[near], doubt, int(row)) for row, near in zip(rows, nearest, strict=True))


def _suspect(
    picture: Picture, names: Sequence[str], classes: NDArray[np.int64], nearest: NDArray[np.int64], doubt: LabelDoubt, row: int
) -> Suspect:
    suspected = int(doubt.suspected[row])
    own, theirs = int((nearest == classes[row]).sum()), int((nearest == suspected).sum())
    return Suspect(
        path=picture.path,
        label=picture.label,
        suspected_label=names[suspected],
        score=round(float(doubt.score[row]), 4),
        reason=(
            f"cosine {doubt.other[row]:.2f} with the mean of the suspected class, {doubt.own[row]:.2f} with the rest of its own; "
            f"of its {len(nearest)} nearest pictures {theirs} are of the suspected class, {own} of its own"
        ),
    )
