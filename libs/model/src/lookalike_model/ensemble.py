"""An ensemble: a bundle of bundles that is one model with one space.

retrieval.json            what its members are, and the space they make together (EnsembleDescription)
members/0/, members/1/ …  the members' bundles, whole
golden/vectors.safetensors, golden/pictures.json
README.md                 model card
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from lookalike_model.bundle import (
    CARD,
    GOLDEN_PICTURES,
    GOLDEN_VECTORS,
    RETRIEVAL,
    Bundle,
    BundleError,
    Golden,
    Metric,
    check_fingerprint,
    is_ensemble,
    read_bundle,
    read_golden,
    read_record,
)
from lookalike_model.fingerprint import SpaceMember, ensemble_fingerprint
from lookalike_model.profile import Advice
from lookalike_model.records import Record

MEMBERS = "members"
MIN_MEMBERS, MAX_MEMBERS = 2, 6
_OWN_FILES = frozenset({RETRIEVAL, CARD, GOLDEN_VECTORS, GOLDEN_PICTURES})


class EnsembleMember(Record):
    """One of an ensemble's members.

    Attributes:
        model: where it came from, such as `models/shoes/versions/3`; for people.
        profile: the one of its bundle that is used.
        weight: its share of a cosine; those of all members add up to 1.
    """

    model: str
    profile: str
    weight: float = Field(gt=0, le=1)


class EnsembleProfile(Record):
    """The space that the members make together."""

    fingerprint: str = Field(pattern=r"^ls1:[0-9a-f]{64}$")
    dim: int = Field(ge=1)
    advice: Advice = Advice()


class EnsembleDescription(Record):
    """`retrieval.json` of an ensemble."""

    format: Literal[1]
    kind: Literal["ensemble"]
    members: tuple[EnsembleMember, ...] = Field(min_length=MIN_MEMBERS, max_length=MAX_MEMBERS)
    decoder_revision: int | str
    profiles: dict[str, EnsembleProfile] = Field(min_length=1, max_length=1)
    default_profile: str
    metrics: dict[str, Metric]
    recipe: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """An ensemble as read and checked; `bundles` are its members' in order."""

    folder: Path
    description: EnsembleDescription
    bundles: tuple[Bundle, ...]
    golden: Golden

    @property
    def profiles(self) -> dict[str, EnsembleProfile]:
        """Profiles by name; there is one."""
        return self.description.profiles

    @property
    def default_profile(self) -> str:
        """Name of its profile."""
        return self.description.default_profile

    @property
    def decoder_revision(self) -> int | str:
        """Revision of the decoder that all members were made with."""
        return self.description.decoder_revision


def read_model(folder: Path) -> Bundle | Ensemble:
    """Read a bundle or an ensemble, whichever the folder is.

    Raises:
        BundleError: something is missing, unknown, malformed or was changed.
    """
    return read_ensemble(folder) if is_ensemble(folder) else read_bundle(folder)


def read_ensemble(folder: Path) -> Ensemble:
    """Read an ensemble and check that its parts agree, those of its members included.

    Raises:
        BundleError: something is missing, unknown, malformed or was changed.
    """
    description = read_record(folder / RETRIEVAL, EnsembleDescription)
    _check_files(folder, len(description.members))
    bundles = tuple(_read_member(folder, index) for index in range(len(description.members)))
    if not math.isclose(sum(member.weight for member in description.members), 1.0, rel_tol=0, abs_tol=1e-9):
        raise BundleError(f"{RETRIEVAL}: the weights of the members do not add up to 1")
    if description.default_profile not in description.profiles:
        raise BundleError(f"{RETRIEVAL}: default_profile `{description.default_profile}` is none of its profiles")
    entry = description.profiles[description.default_profile]
    members = space_members(bundles, description)
    check_fingerprint(description.default_profile, entry.fingerprint, ensemble_fingerprint(members, description.decoder_revision))
    if entry.dim != ensemble_dim(bundles, description.members):
        raise BundleError(
            f"{RETRIEVAL}: it says {entry.dim} values a vector, the members have {ensemble_dim(bundles, description.members)}"
        )
    return Ensemble(folder, description, bundles, read_golden(folder, description.profiles))


def space_members(bundles: tuple[Bundle, ...], description: EnsembleDescription) -> list[SpaceMember]:
    """What each member brings into the space.

    Raises:
        BundleError: a member has no such profile, or was made with another decoder than the rest.
    """
    found = []
    for bundle, member in zip(bundles, description.members, strict=True):
        if member.profile not in bundle.profiles:
            raise BundleError(f"{member.model} has no profile `{member.profile}`; it has: {', '.join(bundle.profiles)}")
        if bundle.decoder_revision != description.decoder_revision:
            raise BundleError(
                f"{member.model} was made with decoder revision {bundle.decoder_revision}, not {description.decoder_revision}: "
                "the members of an ensemble get the same decoded pictures"
            )
        profile = bundle.profiles[member.profile].profile
        found.append(SpaceMember(member.weight, bundle.network, bundle.preprocessing, profile, bundle.projection_of(profile)))
    return found


def ensemble_dim(bundles: tuple[Bundle, ...], members: tuple[EnsembleMember, ...]) -> int:
    """Values of the members' vectors together."""
    return sum(bundle.profiles[member.profile].dim for bundle, member in zip(bundles, members, strict=True))


def _check_files(folder: Path, members: int) -> None:
    entries = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
    files = {path.relative_to(folder).as_posix() for path in entries}
    if missing := sorted(_OWN_FILES - files):
        raise BundleError(f"the ensemble lacks {', '.join(missing)}")
    folders = tuple(f"{MEMBERS}/{index}/" for index in range(members))
    unknown = sorted(name for name in files - _OWN_FILES - {"manifest.json"} if not name.startswith(folders))
    if unknown:
        raise BundleError(f"the ensemble holds files that do not belong there: {', '.join(unknown[:5])}")
    if links := [path.name for path in entries if path.is_symlink()]:
        raise BundleError(f"the ensemble holds links instead of files: {', '.join(links[:5])}")


def _read_member(folder: Path, index: int) -> Bundle:
    try:
        return read_bundle(folder / MEMBERS / str(index))
    except BundleError as error:
        raise BundleError(f"member {index}: {error}") from error
