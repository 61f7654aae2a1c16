"""A model bundle: the folder that carries a model, and how it is read.

config.json               timm's own fields: `timm.create_model("local-dir:FOLDER", pretrained=True)` loads it
model.safetensors         the backbone, by timm's names
heads.safetensors         pooling exponent and embedding FC; only if there is one
projections.safetensors   what profiles project with; only if there is one
retrieval.json            what the vectors are (Description)
golden/vectors.safetensors, golden/pictures.json
README.md                 model card
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from lookalike_images import Preprocessing
from lookalike_model.embedding_model import vector_dim
from lookalike_model.fingerprint import space_fingerprint
from lookalike_model.network import NetworkError, RetrievalNetwork
from lookalike_model.profile import Advice, Profile
from lookalike_model.projection import Projection, ProjectionError, projections_of_tensors
from lookalike_model.records import Record, first_problems
from lookalike_model.spec import ChannelStatistics, NetworkSpec
from lookalike_model.timm_config import timm_config

FORMAT: Literal[1] = 1
CONFIG, MODEL, HEADS, PROJECTIONS, RETRIEVAL, CARD = (
    "config.json",
    "model.safetensors",
    "heads.safetensors",
    "projections.safetensors",
    "retrieval.json",
    "README.md",
)
GOLDEN_VECTORS, GOLDEN_PICTURES = "golden/vectors.safetensors", "golden/pictures.json"
_ALWAYS = frozenset({CONFIG, MODEL, RETRIEVAL, CARD, GOLDEN_VECTORS, GOLDEN_PICTURES})
_MAX_JSON_BYTES = 8 << 20
_R = TypeVar("_R", bound=Record)


class BundleError(ValueError):
    """The folder is no bundle that can be trusted; the message names the file and what is wrong with it."""


class BundleProfile(Record):
    """A profile with the space it makes and the advice that goes with it."""

    profile: Profile
    fingerprint: str = Field(pattern=r"^ls1:[0-9a-f]{64}$")
    dim: int = Field(ge=1)
    advice: Advice = Advice()


class Metric(Record):
    """A figure with its 95 % interval where one was computed."""

    value: float
    ci95: tuple[float, float] | None = None


class TrainingData(Record):
    """What a model was trained on.

    Attributes:
        fingerprint: of the dataset revision's manifest.
        pictures: that could be read.
        classes: labels in all, held-out ones included.
        held_out_classes: labels that were never trained on; 0 makes the model an unproven one.
        excluded_pictures: that were left out as asked.
        excluded_sha256: of the list of their paths, a JSON array, sorted; empty if there is none.
    """

    name: str
    revision: int
    fingerprint: str
    pictures: int
    classes: int
    held_out_classes: int
    excluded_pictures: int = 0
    excluded_sha256: str = ""


class Description(Record):
    """`retrieval.json`, apart from what pixels go through first (a Preprocessing beside it)."""

    format: Literal[1]
    network: NetworkSpec
    statistics: ChannelStatistics
    preprocessing: dict[str, Any]
    decoder_revision: int | str
    profiles: dict[str, BundleProfile] = Field(min_length=1)
    default_profile: str
    metrics: dict[str, Metric]
    data: TrainingData | None
    recipe: dict[str, Any]


class GoldenIndex(Record):
    """`golden/pictures.json`: SHA-256 of each golden picture by name, in the order of the vectors."""

    pictures: dict[str, str] = Field(min_length=1)


@dataclass(frozen=True, slots=True)
class Golden:
    """What the model made of the golden pictures where it was made, in fp32 on the CPU.

    Attributes:
        pictures: SHA-256 by name, in the order of the rows.
        vectors: float32 [pictures, dim] by profile.
    """

    pictures: dict[str, str]
    vectors: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as read and checked; its network is in inference mode on the CPU."""

    folder: Path
    description: Description
    preprocessing: Preprocessing
    network: RetrievalNetwork
    golden: Golden
    projections: Mapping[str, Projection] = field(default_factory=dict)

    @property
    def profiles(self) -> dict[str, BundleProfile]:
        """Profiles by name."""
        return self.description.profiles

    @property
    def default_profile(self) -> str:
        """Name of the profile that is meant when none is named."""
        return self.description.default_profile

    @property
    def decoder_revision(self) -> int | str:
        """Revision of the decoder that the model was made with."""
        return self.description.decoder_revision

    def projection_of(self, profile: Profile) -> Projection | None:
        """The tensors that a profile of this bundle projects with."""
        return None if profile.projection is None else self.projections[profile.projection.name]


def read_bundle(folder: Path) -> Bundle:
    """Read a bundle and check that its parts agree: files, keys, shapes and the fingerprint of each profile.

    Raises:
        BundleError: something is missing, unknown, malformed or was changed.
    """
    if is_ensemble(folder):
        raise BundleError("it is an ensemble of several models where one model is expected: name one of its members")
    _check_files(folder)
    description = read_record(folder / RETRIEVAL, Description)
    if description.default_profile not in description.profiles:
        raise BundleError(f"{RETRIEVAL}: default_profile `{description.default_profile}` is none of its profiles")
    preprocessing = _preprocessing(description)
    network = _network(folder, description)
    _check_config(folder, network, preprocessing)
    projections = _projections(folder, description)
    bundle = Bundle(folder, description, preprocessing, network, Golden({}, {}), projections)
    _check_fingerprints(bundle)
    return replace(bundle, golden=read_golden(folder, description.profiles))


def is_ensemble(folder: Path) -> bool:
    """Whether the folder says of itself that it is an ensemble.

    Raises:
        BundleError: it says nothing that can be read.
    """
    path = folder / RETRIEVAL
    document = read_json(path) if path.is_file() else None
    return isinstance(document, dict) and document.get("kind") == "ensemble"


def read_json(path: Path) -> Any:
    """A JSON document of a bundle.

    Raises:
        BundleError: no JSON, or too large.
    """
    if path.stat().st_size > _MAX_JSON_BYTES:
        raise BundleError(f"{path.name} is larger than {_MAX_JSON_BYTES >> 20} MiB")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is not JSON: {error}") from error


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise BundleError(f"there is no bundle folder {folder}")
    entries = [path for path in folder.rglob("*") if not path.is_dir()]
    files = {path.relative_to(folder).as_posix() for path in entries}
    if missing := sorted(_ALWAYS - files):
        raise BundleError(f"the bundle lacks {', '.join(missing)}")
    if unknown := sorted(files - _ALWAYS - {HEADS, PROJECTIONS, "manifest.json"}):
        raise BundleError(f"the bundle holds files that do not belong there: {', '.join(unknown[:5])}")
    if links := [path.name for path in entries if path.is_symlink()]:
        raise BundleError(f"the bundle holds links instead of files: {', '.join(links[:5])}")


def read_record(path: Path, kind: type[_R]) -> _R:
    """A JSON document of a bundle as a record; raises BundleError."""
    document = read_json(path)
    if "format" in kind.model_fields and isinstance(document, dict) and document.get("format") != FORMAT:
        raise BundleError(f"{path.name}: format {document.get('format')!r} is not {FORMAT}, which this version reads")
    try:
        return kind.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise BundleError(f"{path.name}: {first_problems(error)}") from error


def _preprocessing(description: Description) -> Preprocessing:
    try:
        return Preprocessing.from_json(description.preprocessing)
    except (ValueError, TypeError, KeyError) as error:
        raise BundleError(f"{RETRIEVAL}: preprocessing: {error}") from error


def _network(folder: Path, description: Description) -> RetrievalNetwork:
    try:
        network = RetrievalNetwork(description.network, description.statistics)
    except NetworkError as error:
        raise BundleError(f"{RETRIEVAL}: network: {error}") from error
    wanted = network.state_dict()
    tensors = {f"backbone.{name}": tensor for name, tensor in _tensors(folder / MODEL).items()}
    if (folder / HEADS).exists():
        tensors |= _tensors(folder / HEADS)
    wrong = sorted(wanted.keys() ^ tensors.keys()) or [
        name for name, tensor in wanted.items() if (t := tensors[name]).shape != tensor.shape or t.dtype != tensor.dtype
    ]
    if wrong:
        raise BundleError(f"the tensors do not fit the network: {', '.join(wrong[:5])} ({len(wrong)} in all)")
    network.load_state_dict(tensors)
    return network.eval()


def _tensors(path: Path) -> dict[str, Any]:
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{path.name} is no safetensors file: {error}") from error


def _check_config(folder: Path, network: RetrievalNetwork, preprocessing: Preprocessing) -> None:
    """What timm would read must be what retrieval.json says (names of layers are timm's own affair)."""
    written, ours = _flat(read_json(folder / CONFIG)), _flat(timm_config(network, preprocessing))
    if written.keys() != ours.keys():
        raise BundleError(f"{CONFIG}: unexpected or missing keys: {', '.join(sorted(written.keys() ^ ours.keys()))}")
    names_of_layers = {"first_conv", "classifier"}
    if wrong := [key for key in ours if key not in names_of_layers and written[key] != ours[key]]:
        raise BundleError(f"{CONFIG} and {RETRIEVAL} disagree on {', '.join(wrong)}")


def _flat(config: Any) -> dict[str, Any]:
    """timm's fields, those of its pretrained_cfg among them."""
    if not isinstance(config, dict) or not isinstance(config.get("pretrained_cfg"), dict):
        raise BundleError(f"{CONFIG}: expected an object with an object `pretrained_cfg`")
    return {**config, **config["pretrained_cfg"], "pretrained_cfg": None}


def _projections(folder: Path, description: Description) -> dict[str, Projection]:
    path = folder / PROJECTIONS
    try:
        projections = projections_of_tensors(_tensors(path)) if path.exists() else {}
    except ProjectionError as error:
        raise BundleError(f"{PROJECTIONS}: {error}") from error
    named = {entry.profile.projection.name for entry in description.profiles.values() if entry.profile.projection is not None}
    if wrong := sorted(named ^ projections.keys()):
        raise BundleError(f"{PROJECTIONS} and the profiles of {RETRIEVAL} disagree on {', '.join(wrong[:5])}")
    return projections


def _check_fingerprints(bundle: Bundle) -> None:
    for name, entry in bundle.profiles.items():
        projection = bundle.projection_of(entry.profile)
        try:
            dim = vector_dim(bundle.network, bundle.preprocessing, entry.profile, projection)
        except ValueError as error:
            raise BundleError(f"{RETRIEVAL}: profile `{name}`: {error}") from error
        if entry.dim != dim:
            raise BundleError(f"{RETRIEVAL}: profile `{name}` says {entry.dim} values a vector, the network has {dim}")
        computed = space_fingerprint(bundle.network, bundle.preprocessing, bundle.decoder_revision, entry.profile, projection)
        check_fingerprint(name, entry.fingerprint, computed)


def check_fingerprint(profile: str, written: str, computed: str) -> None:
    """Raise BundleError unless a profile's fingerprint is that of what is in the bundle."""
    if computed != written:
        raise BundleError(
            f"{RETRIEVAL}: the fingerprint of profile `{profile}` is {written}, but what is in the bundle "
            f"makes {computed}: the bundle was changed after it was written"
        )


class _HasDim(Protocol):
    @property
    def dim(self) -> int: ...


def read_golden(folder: Path, profiles: Mapping[str, _HasDim]) -> Golden:
    """The golden vectors of a bundle with these profiles; raises BundleError."""
    pictures = read_record(folder / GOLDEN_PICTURES, GoldenIndex).pictures
    try:
        vectors = load_arrays(folder / GOLDEN_VECTORS)
    except (SafetensorError, OSError, ValueError) as error:
        raise BundleError(f"{GOLDEN_VECTORS} is no safetensors file: {error}") from error
    wanted = {name: (len(pictures), entry.dim) for name, entry in profiles.items()}
    if {name: array.shape for name, array in vectors.items()} != wanted or any(array.dtype != np.float32 for array in vectors.values()):
        raise BundleError(f"{GOLDEN_VECTORS} does not hold one float32 row a golden picture for each profile")
    return Golden(pictures, vectors)
