"""What a job is asked to do, as it is kept with the job."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from lookalike_model.profile import Tap
from lookalike_model.records import Record

StartKind = Literal["builtin", "random", "timm", "weights", "bundle"]


class Start(Record):
    """What a job starts from.

    Attributes:
        name: of built-in weights, or timm's name of the network (`random`, `timm`, `weights`).
        sha256: of the weights file.
        model: whose version is started from.
        version: its number.
    """

    kind: StartKind
    name: str = ""
    sha256: str = ""
    model: str = ""
    version: int = 0


class Excluded(Record):
    """Pictures that are left out: how many, and the SHA-256 of the blob that lists them."""

    count: int
    sha256: str


class TrainSpec(Record):
    """A training.

    `revision` is None for the newest, `start` None for the built-in weights, `recipe` empty for the default. `recipe_toml` is
    the text of a recipe of one's own, in place of `recipe`.
    """

    kind: Literal["train"] = "train"
    model: str
    dataset: str
    revision: int | None
    recipe: str
    overrides: dict[str, str]
    start: Start | None
    seed: int
    recipe_toml: str = ""
    excluded: Excluded | None = None


class FolderFile(Record):
    """A file of a folder that is imported whole: its path inside it, and its content's SHA-256."""

    path: str
    sha256: str


class ImportSpec(Record):
    """An import, either of `start` or of a `folder`. `size` is in pixels, 0 for what the network was trained for."""

    kind: Literal["import"] = "import"
    model: str
    start: Start | None
    size: int
    folder: tuple[FolderFile, ...] = ()


class CheckSpec(Record):
    """A check of a dataset. `revision` is None for the newest, `start` None for the built-in weights."""

    kind: Literal["check"] = "check"
    dataset: str
    revision: int | None
    start: Start | None


class EnsembleMember(Record):
    """A version of a model with one of its profiles, None for its default, and how much it counts."""

    model: str
    version: int
    profile: str | None
    weight: float


class EnsembleSpec(Record):
    """An ensemble of versions, in order. It starts from none of them alone."""

    kind: Literal["ensemble"] = "ensemble"
    model: str
    members: tuple[EnsembleMember, ...]
    start: None = None


class ProfileSpec(Record):
    """One more profile of the version that is `start`, which makes a new version of `model`.

    `project_dim` is 0 for no projection; else it is fitted on `dataset`, whose `revision` is None for the newest.
    """

    kind: Literal["profile"] = "profile"
    model: str
    start: Start
    profile: str
    tap: Tap
    views: tuple[str, ...]
    project_dim: int
    dataset: str | None
    revision: int | None
    default_profile: bool


JobSpec = TrainSpec | ImportSpec | CheckSpec | EnsembleSpec | ProfileSpec
# What later versions added stands in the text only where it is used, so that text of earlier ones stays equal.
_LATER = ("recipe_toml", "excluded", "folder")
_SPEC: TypeAdapter[JobSpec] = TypeAdapter(Annotated[JobSpec, Field(discriminator="kind")])


def spec_to_json(spec: JobSpec) -> str:
    """The spec as canonical JSON: equal specs give equal text."""
    if isinstance(spec, TrainSpec):
        spec = spec.model_copy(update={"overrides": dict(sorted(spec.overrides.items()))})
    return spec.model_dump_json(exclude={name for name in _LATER if not getattr(spec, name, True)})


def spec_from_json(text: str) -> JobSpec:
    """What `spec_to_json` wrote."""
    return _SPEC.validate_json(text)


def contents_of(spec: JobSpec) -> set[str]:
    """SHA-256 of the uploaded contents that a job reads beside its dataset."""
    found = {spec.start.sha256} if spec.start and spec.start.kind == "weights" else set()
    if isinstance(spec, ImportSpec):
        found.update(file.sha256 for file in spec.folder)
    if isinstance(spec, TrainSpec) and spec.excluded:
        found.add(spec.excluded.sha256)
    return found
