"""From a manifest to pictures with labels."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike_trainer.exclusion import read_excluded
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.job import DatasetReference

_LISTED = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """A line of the manifest: path in the dataset, label, content."""

    path: str
    label: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Labels:
    """Classes of pictures, by the rows they have wherever pictures are kept.

    Attributes:
        names: of the classes, sorted.
        of_row: int64 [pictures], index into names.
    """

    names: tuple[str, ...]
    of_row: NDArray[np.int64]

    @classmethod
    def of(cls, pictures: Sequence[Picture]) -> "Labels":
        """The classes that these pictures have.

        Raises:
            JobError: TOO_FEW_CLASSES, for fewer than two.
        """
        names = tuple(sorted({picture.label for picture in pictures}))
        if len(names) < 2:
            has = f"one class (`{names[0]}`)" if names else "no class at all"
            raise JobError(
                Reason.TOO_FEW_CLASSES,
                f"the pictures that can be read have {has}: there is nothing to tell apart. Give a folder for each of at least two classes",
            )
        number = {name: index for index, name in enumerate(names)}
        return cls(names, np.array([number[picture.label] for picture in pictures], dtype=np.int64))

    @property
    def counts(self) -> NDArray[np.int64]:
        """int64 [classes]: pictures of each class."""
        return np.bincount(self.of_row, minlength=len(self.names)).astype(np.int64)

    def rows_of(self, classes: Sequence[int]) -> NDArray[np.int64]:
        """Rows of the pictures of these classes, ascending."""
        return np.flatnonzero(np.isin(self.of_row, list(classes))).astype(np.int64)


def read_manifest(path: Path) -> list[Picture]:
    """The pictures of a dataset's revision, in the manifest's order.

    Raises:
        JobError: INVALID_JOB, if a line is malformed or there is none.
    """
    pictures = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                pictures.append(Picture(str(entry["path"]), str(entry["label"]), str(entry["sha256"])))
            except (ValueError, KeyError, TypeError) as error:
                raise JobError(Reason.INVALID_JOB, f"line {number} of the manifest is malformed: {error}") from error
    if not pictures:
        raise JobError(Reason.INVALID_JOB, "the dataset has no pictures")
    return pictures


def read_pictures(dataset: DatasetReference) -> list[Picture]:
    """The pictures of a dataset's revision, without those that are left out.

    Raises:
        JobError: INVALID_JOB, if the manifest cannot be read or nothing is left.
    """
    pictures = read_manifest(Path(dataset.manifest))
    if dataset.excluded is None:
        return pictures
    excluded = read_excluded(Path(dataset.excluded))
    left = [picture for picture in pictures if picture.path not in excluded]
    if not left:
        raise JobError(Reason.INVALID_JOB, "every picture of the dataset is left out: shorten the list")
    return left


def describe_unreadable(unreadable: Sequence[Unreadable], total: int) -> str | None:
    """A sentence for the user about what was left out; None if nothing was.

    Raises:
        JobError: TOO_MANY_UNREADABLE, if it is more than half.
    """
    if not unreadable:
        return None
    examples = "; ".join(f"{u.path}: {u.reason}" for u in unreadable[:_LISTED])
    more = f"; and {len(unreadable) - _LISTED} more" if len(unreadable) > _LISTED else ""
    sentence = f"{len(unreadable)} of {total} pictures cannot be read and were left out ({examples}{more})."
    if 2 * len(unreadable) > total:
        raise JobError(Reason.TOO_MANY_UNREADABLE, sentence + " That is more than half: check the folder you gave")
    return sentence


def describe_singles(pictures: Sequence[Picture]) -> str | None:
    """A sentence about classes with one picture; None if there is none."""
    singles = sorted(label for label, count in Counter(p.label for p in pictures).items() if count == 1)
    if not singles:
        return None
    more = f" and {len(singles) - _LISTED} more" if len(singles) > _LISTED else ""
    classes = "1 class has" if len(singles) == 1 else f"{len(singles)} classes have"
    return (
        f"{classes} one picture ({', '.join(singles[:_LISTED])}{more}): it is told apart from others, "
        "but nothing can be learnt or measured about what its class has in common."
    )
