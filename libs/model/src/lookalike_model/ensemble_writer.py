"""Writing an ensemble: its members' bundles copied, its golden vectors computed, aside and then renamed."""

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lookalike_model.bundle import CARD, FORMAT, RETRIEVAL, Bundle, BundleError, Golden, read_bundle
from lookalike_model.bundle_writer import json_text, sync_files, write_golden, write_text
from lookalike_model.ensemble import (
    MAX_MEMBERS,
    MEMBERS,
    MIN_MEMBERS,
    Ensemble,
    EnsembleDescription,
    EnsembleMember,
    EnsembleProfile,
    ensemble_dim,
    read_ensemble,
    space_members,
)
from lookalike_model.ensemble_model import EnsembleModel
from lookalike_model.fingerprint import ensemble_fingerprint
from lookalike_model.golden import golden_pictures
from lookalike_model.registry import MANIFEST

PROFILE = "plain"


@dataclass(frozen=True, slots=True)
class MemberSource:
    """What becomes a member.

    Attributes:
        folder: of its bundle.
        model: what it is called where it comes from, such as `models/shoes/versions/3`.
        profile: the one that is used; None for its default.
        weight: above 0; only its share of all weights counts.
    """

    folder: Path
    model: str
    profile: str | None = None
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class EnsembleContent:
    """What goes into an ensemble: its name, for its card, and its members in order. `recipe` holds JSON values, `notes` sentences."""

    name: str
    members: Sequence[MemberSource]
    recipe: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def write_ensemble(folder: Path, content: EnsembleContent) -> Ensemble:
    """Write an ensemble and read it back, checked.

    The golden vectors are computed here, in fp32 on the CPU.

    Args:
        folder: must not exist; its parent must.

    Raises:
        FileExistsError: the folder exists.
        BundleError: too few or too many members, a weight that is none, or a member that is no bundle, is an ensemble itself,
            lacks the profile, or was made with another decoder than the rest.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a bundle is never written over another")
    if not MIN_MEMBERS <= len(content.members) <= MAX_MEMBERS:
        raise BundleError(f"an ensemble has {MIN_MEMBERS} to {MAX_MEMBERS} members, not {len(content.members)}")
    bundles = tuple(_read(source) for source in content.members)
    description = _describe(content, bundles)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "golden").mkdir(parents=True)
    for index, source in enumerate(content.members):
        shutil.copytree(source.folder, aside / MEMBERS / str(index), ignore=shutil.ignore_patterns(MANIFEST))
    write_golden(aside, _golden(Ensemble(folder, description, bundles, Golden({}, {}))))
    write_text(aside / CARD, _card(content, description))
    write_text(aside / RETRIEVAL, json_text(description.model_dump(mode="json")))
    read_ensemble(aside)
    sync_files(aside)
    aside.rename(folder)
    return read_ensemble(folder)


def _read(source: MemberSource) -> Bundle:
    try:
        return read_bundle(source.folder)
    except BundleError as error:
        raise BundleError(f"{source.model}: {error}") from error


def _describe(content: EnsembleContent, bundles: tuple[Bundle, ...]) -> EnsembleDescription:
    for source in content.members:
        if not (source.weight > 0 and math.isfinite(source.weight)):
            raise BundleError(f"the weight of {source.model} is {source.weight:g}; it must be above 0")
    total = math.fsum(source.weight for source in content.members)
    members = tuple(
        EnsembleMember(model=source.model, profile=source.profile or bundle.default_profile, weight=source.weight / total)
        for source, bundle in zip(content.members, bundles, strict=True)
    )
    revision = bundles[0].decoder_revision
    unnamed = EnsembleProfile(fingerprint=f"ls1:{'0' * 64}", dim=1)
    description = EnsembleDescription(
        format=FORMAT,
        kind="ensemble",
        members=members,
        decoder_revision=revision,
        profiles={PROFILE: unnamed},
        default_profile=PROFILE,
        metrics={},
        recipe=dict(content.recipe),
    )
    fingerprint = ensemble_fingerprint(space_members(bundles, description), revision)
    profile = EnsembleProfile(fingerprint=fingerprint, dim=ensemble_dim(bundles, members))
    return description.model_copy(update={"profiles": {PROFILE: profile}})


def _golden(ensemble: Ensemble) -> Golden:
    pictures = golden_pictures()
    vectors = EnsembleModel.load(ensemble).embed_pictures([picture.data for picture in pictures])
    return Golden({picture.name: picture.sha256 for picture in pictures}, {PROFILE: vectors})


def _card(content: EnsembleContent, description: EnsembleDescription) -> str:
    rows = "\n".join(
        f"| `members/{index}` | {member.model} | `{member.profile}` | {member.weight:.4g} |"
        for index, member in enumerate(description.members)
    )
    entry = description.profiles[PROFILE]
    parts = [
        "---\npipeline_tag: image-feature-extraction\ntags:\n- image-retrieval\n- lookalike\n---",
        f"# {content.name}",
        "An ensemble: each member embeds the same picture, and a cosine is the weighted mean of the members' cosines.",
        f"| folder | member | profile | weight |\n|---|---|---|---|\n{rows}",
        f"Profile `{PROFILE}`: {entry.dim} values, space `{entry.fingerprint}`.",
    ]
    if content.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in content.notes))
    return "\n\n".join(parts) + "\n"
