"""What a manifest shows of a dataset without a look at its pictures. Needs no torch; the service and the workers use it alike."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Protocol

from lookalike_model.records import Record

FEW_PICTURES = 3
LISTED, LISTED_IN_A_GROUP = 100, 20
_BOUNDS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 100_000, 1_000_001)


class Labelled(Protocol):
    """A picture of a manifest."""

    @property
    def path(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def sha256(self) -> str: ...


class ClassSizes(Record):
    """How many classes have `fewest` to `most` pictures."""

    fewest: int
    most: int
    classes: int


class SmallClass(Record):
    """A label with few pictures."""

    label: str
    pictures: int


class Copies(Record):
    """Pictures that are the same: the first paths and labels, and how many pictures."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    pictures: int

    @property
    def across(self) -> bool:
        """Whether they stand in several classes."""
        return len(self.labels) > 1


class ManifestFindings(Record):
    """What a manifest shows.

    Attributes:
        sizes: classes by their number of pictures, ascending, none empty at the ends.
        small: labels with fewer than `FEW_PICTURES`, the first `LISTED`, fewest pictures first; `small_count` counts all.
        copies: groups of files that are equal byte for byte, the first `LISTED`, those across classes first; of n equal ones,
            `copy_count` counts n − 1.
    """

    sizes: tuple[ClassSizes, ...]
    small: tuple[SmallClass, ...]
    small_count: int
    copies: tuple[Copies, ...]
    copy_count: int


def inspect_manifest(pictures: Iterable[Labelled]) -> ManifestFindings:
    """What these pictures' labels and contents show."""
    listed = list(pictures)
    counts = Counter(picture.label for picture in listed)
    small = sorted((count, label) for label, count in counts.items() if count < FEW_PICTURES)
    groups = equal_pictures(listed, [picture.sha256 for picture in listed])
    return ManifestFindings(
        sizes=class_sizes(counts.values()),
        small=tuple(SmallClass(label=label, pictures=count) for count, label in small[:LISTED]),
        small_count=len(small),
        copies=tuple(groups[:LISTED]),
        copy_count=sum(group.pictures - 1 for group in groups),
    )


def equal_pictures(pictures: Iterable[Labelled], digests: Iterable[str]) -> list[Copies]:
    """Pictures whose digests are equal, in groups: those with several labels first, then the largest."""
    by_digest: dict[str, list[Labelled]] = defaultdict(list)
    for picture, digest in zip(pictures, digests, strict=True):
        by_digest[digest].append(picture)
    groups = [_copies(group) for group in by_digest.values() if len(group) > 1]
    return sorted(groups, key=lambda group: (not group.across, -group.pictures, group.paths))


def class_sizes(counts: Iterable[int]) -> tuple[ClassSizes, ...]:
    """A histogram of numbers from 1, in steps that widen."""
    listed = list(counts)
    bars = [
        ClassSizes(fewest=low, most=high - 1, classes=sum(low <= count < high for count in listed))
        for low, high in itertools.pairwise(_BOUNDS)
    ]
    filled = [index for index, bar in enumerate(bars) if bar.classes]
    return tuple(bars[filled[0] : filled[-1] + 1]) if filled else ()


def _copies(group: list[Labelled]) -> Copies:
    labels = sorted({picture.label for picture in group})
    paths = tuple(picture.path for picture in group[:LISTED_IN_A_GROUP])
    return Copies(paths=paths, labels=tuple(labels[:LISTED_IN_A_GROUP]), pictures=len(group))
