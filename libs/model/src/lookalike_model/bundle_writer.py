"""Writing a bundle: aside, then renamed, so that a half-written one is never seen."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file

from lookalike_images import DECODER_REVISION, Preprocessing
from lookalike_model import bundle as layout
from lookalike_model.bundle import Bundle, BundleProfile, Description, Golden, Metric, TrainingData, read_bundle
from lookalike_model.embedding_model import EmbeddingModel, vector_dim
from lookalike_model.fingerprint import space_fingerprint
from lookalike_model.golden import golden_pictures
from lookalike_model.model_card import model_card
from lookalike_model.network import RetrievalNetwork
from lookalike_model.profile import Advice, Profile
from lookalike_model.projection import Projection, projections_to_tensors
from lookalike_model.timm_config import timm_config


@dataclass(frozen=True, slots=True)
class BundleContent:
    """What goes into a bundle.

    Attributes:
        name: of the model, for its card.
        network: is put into inference mode on the CPU.
        profiles: by name, at least one.
        advice: by the name of a profile, for those that have any.
        recipe: resolved, with all that was chosen; JSON values.
        notes: sentences for the user.
        projections: what profiles project with, by the name they know it by.
    """

    name: str
    network: RetrievalNetwork
    preprocessing: Preprocessing
    profiles: Mapping[str, Profile] = field(default_factory=lambda: {"plain": Profile()})
    default_profile: str = "plain"
    advice: Mapping[str, Advice] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    data: TrainingData | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    projections: Mapping[str, Projection] = field(default_factory=dict)


def write_bundle(folder: Path, content: BundleContent) -> Bundle:
    """Write a bundle and read it back, checked.

    The golden vectors are computed here, in fp32 on the CPU.

    Args:
        folder: must not exist; its parent must.

    Raises:
        FileExistsError: the folder exists.
        BundleError: what was written does not read back.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; a bundle is never written over another")
    network = content.network.cpu().eval()
    description = _describe(content, network)
    aside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(aside, ignore_errors=True)
    (aside / "golden").mkdir(parents=True)
    _write_tensors(aside, network)
    if content.projections:
        save_file(projections_to_tensors(content.projections), aside / layout.PROJECTIONS)
    write_golden(aside, _golden(content, description, network))
    card = model_card(content.name, description, content.preprocessing, content.notes)
    write_text(aside / layout.CARD, card)
    write_text(aside / layout.CONFIG, json_text(timm_config(network, content.preprocessing)))
    write_text(aside / layout.RETRIEVAL, json_text(description.model_dump(mode="json")))
    read_bundle(aside)
    sync_files(aside)
    aside.rename(folder)
    return read_bundle(folder)


def sync_files(folder: Path) -> None:
    """fsync each file in a folder, so that a rename after it never shows empty files."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def _describe(content: BundleContent, network: RetrievalNetwork) -> Description:
    profiles = {name: _describe_profile(content, network, name) for name in content.profiles}
    return Description(
        format=layout.FORMAT,
        network=network.spec,
        statistics=network.statistics,
        preprocessing=content.preprocessing.to_json(),
        decoder_revision=DECODER_REVISION,
        profiles=profiles,
        default_profile=content.default_profile,
        metrics=dict(content.metrics),
        data=content.data,
        recipe=dict(content.recipe),
    )


def _describe_profile(content: BundleContent, network: RetrievalNetwork, name: str) -> BundleProfile:
    profile, projection = content.profiles[name], _projection(content, name)
    return BundleProfile(
        profile=profile,
        fingerprint=space_fingerprint(network, content.preprocessing, DECODER_REVISION, profile, projection),
        dim=vector_dim(network, content.preprocessing, profile, projection),
        advice=content.advice.get(name, Advice()),
    )


def _projection(content: BundleContent, name: str) -> Projection | None:
    spec = content.profiles[name].projection
    return content.projections.get(spec.name) if spec else None


def _golden(content: BundleContent, description: Description, network: RetrievalNetwork) -> Golden:
    pictures = golden_pictures()
    vectors = {}
    for name, entry in description.profiles.items():
        model = EmbeddingModel(
            network, content.preprocessing, name, entry.profile, entry.fingerprint, projection=_projection(content, name)
        )
        vectors[name] = model.embed_pictures([picture.data for picture in pictures])
    return Golden({picture.name: picture.sha256 for picture in pictures}, vectors)


def _write_tensors(folder: Path, network: RetrievalNetwork) -> None:
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    backbone = {name.removeprefix("backbone."): t for name, t in tensors.items() if name.startswith("backbone.")}
    heads = {name: t for name, t in tensors.items() if not name.startswith("backbone.")}
    save_file(backbone, folder / layout.MODEL, metadata={"format": "pt"})
    if heads:
        save_file(heads, folder / layout.HEADS, metadata={"format": "pt"})


def write_golden(folder: Path, golden: Golden) -> None:
    """Write golden vectors into a bundle's folder, which has a folder `golden`."""
    save_arrays(golden.vectors, folder / layout.GOLDEN_VECTORS)
    write_text(folder / layout.GOLDEN_PICTURES, json_text({"pictures": golden.pictures}))


def json_text(value: Any) -> str:
    """JSON as it stands in a bundle."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file of UTF-8."""
    path.write_text(text, encoding="utf-8")
