"""What the servers tell and are told, as plain values. Fields mean what the protos of the same names say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike._exceptions import Violation


class State(StrEnum):
    """Where a job or a build stands."""

    UNSPECIFIED = "UNSPECIFIED"
    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (State.SUCCEEDED, State.FAILED, State.CANCELLED)


class Metric(StrEnum):
    """How two vectors of a space are compared."""

    UNSPECIFIED = "UNSPECIFIED"
    COSINE = "COSINE"


class DbaWeights(StrEnum):
    """How much each neighbour counts; UNSPECIFIED means LINEAR, POWER goes by the cosine to a power."""

    UNSPECIFIED = "UNSPECIFIED"
    EQUAL = "EQUAL"
    LINEAR = "LINEAR"
    RANK = "RANK"
    POWER = "POWER"


class Origin(StrEnum):
    """How the network of a model version came to be."""

    UNSPECIFIED = "UNSPECIFIED"
    TRAINED = "TRAINED"
    IMPORTED = "IMPORTED"
    ENSEMBLE = "ENSEMBLE"


class Engine(StrEnum):
    """What answers searches of a collection; UNSPECIFIED means ANNOY."""

    UNSPECIFIED = "UNSPECIFIED"
    ANNOY = "ANNOY"
    EXACT = "EXACT"
    HNSW = "HNSW"


class Source(StrEnum):
    """Where the candidates of a search come from, before they are ranked with full vectors; EXACT: every vector is compared."""

    UNSPECIFIED = "UNSPECIFIED"
    ANNOY = "ANNOY"
    SCAN = "SCAN"
    IVF = "IVF"
    EXACT = "EXACT"
    HNSW = "HNSW"


class Combine(StrEnum):
    """How several pictures make one query: by the MEAN of their unit vectors, or so that an item has the BEST score that any gives it.

    UNSPECIFIED means MEAN.
    """

    UNSPECIFIED = "UNSPECIFIED"
    MEAN = "MEAN"
    BEST = "BEST"


class ItemView(StrEnum):
    """How much of each item comes: its ID alone, which is the quickest, all but its thumbnail (BASIC), or its THUMBNAIL too."""

    ID = "ID"
    BASIC = "BASIC"
    THUMBNAIL = "THUMBNAIL"


class DType(StrEnum):
    """How the numbers of a vector are stored; UNSPECIFIED means FLOAT32."""

    UNSPECIFIED = "UNSPECIFIED"
    FLOAT32 = "FLOAT32"
    FLOAT16 = "FLOAT16"


class ServingState(StrEnum):
    """Where a model version stands on an embedder."""

    UNSPECIFIED = "UNSPECIFIED"
    UNLOADED = "UNLOADED"
    LOADING = "LOADING"
    READY = "READY"
    FAILED = "FAILED"


@dataclass(frozen=True)
class Problem:
    """An error of one picture, item, job or build: the same fields as `LookalikeError` has."""

    code: str
    reason: str
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)
    violations: tuple[Violation, ...] = ()
    retry_after: float | None = None


@dataclass(frozen=True)
class Space:
    """The identity of an embedding: vectors may be compared only if the fingerprints are equal."""

    fingerprint: str
    model: str
    version: int
    profile: str
    dim: int
    metric: Metric = Metric.COSINE

    @property
    def model_version(self) -> str:
        """`models/M/versions/V` that gives vectors of this space."""
        return f"models/{self.model}/versions/{self.version}"


@dataclass(frozen=True)
class DbaSpec:
    """Database-side augmentation with `k` neighbours besides the item itself, 0 to 100; 0 is off.

    power: exponent of the weights POWER, over 0 to 20, 0 means 3; 0 with other weights.
    rounds: each augments what the one before came to, 1 to 10, 0 means 1.
    """

    k: int
    weights: DbaWeights = DbaWeights.LINEAR
    power: float = 0.0
    rounds: int = 0


@dataclass(frozen=True)
class Progress:
    stage: str
    done: int
    total: int
    unit: str


@dataclass(frozen=True)
class Event:
    """One thing that happened to a job or a build; numbered from 1 without gaps."""

    sequence: int
    time: datetime
    state: State
    progress: Progress | None
    message: str
    metrics: Mapping[str, float]
    error: Problem | None


@dataclass(frozen=True)
class ManifestEntry:
    """One picture of a dataset; `sha256` has 64 hexadecimal digits."""

    path: str
    label: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class DatasetRevision:
    name: str
    fingerprint: str
    picture_count: int
    class_count: int
    single_picture_class_count: int
    size_bytes: int
    create_time: datetime


@dataclass(frozen=True)
class Dataset:
    name: str
    latest: DatasetRevision


@dataclass(frozen=True)
class ClassSizes:
    """A bar of a histogram: `class_count` classes have `from_pictures` to `to_pictures` pictures."""

    from_pictures: int
    to_pictures: int
    class_count: int


@dataclass(frozen=True)
class SmallClass:
    """A label with fewer than three pictures."""

    label: str
    picture_count: int


@dataclass(frozen=True)
class Copies:
    """Pictures that are the same byte for byte: the first paths and labels, and how many they are."""

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    picture_count: int


@dataclass(frozen=True)
class RevisionFindings:
    """What a revision's manifest shows; `job` is `jobs/J` of the newest job that looked at the pictures themselves, or empty."""

    revision: str
    class_sizes: tuple[ClassSizes, ...]
    small_class_count: int
    small_classes: tuple[SmallClass, ...]
    copy_count: int
    copies: tuple[Copies, ...]
    job: str


@dataclass(frozen=True)
class WeightsFile:
    network: str
    sha256: str


@dataclass(frozen=True)
class Init:
    """What training or an import starts from: exactly one of the fields."""

    builtin: str | None = None
    random: str | None = None
    timm: str | None = None
    weights: WeightsFile | None = None
    model_version: str | None = None


@dataclass(frozen=True)
class TrainSpec:
    dataset: str
    model: str
    recipe: str = ""
    overrides: Mapping[str, str] = field(default_factory=dict)
    init: Init | None = None
    seed: int = 0
    recipe_toml: str = ""
    excluded_paths: tuple[str, ...] = ()
    excluded_count: int = 0


@dataclass(frozen=True)
class Recipe:
    """`toml` and `complete_toml` are empty in lists."""

    name: str
    description: str
    default: bool
    extends: str
    toml: str
    complete_toml: str


@dataclass(frozen=True)
class FolderFile:
    """A file of a folder that is imported whole; `sha256` has 64 hexadecimal digits."""

    path: str
    sha256: str


@dataclass(frozen=True)
class ImportSpec:
    """What becomes a model: `init`, or the files of a `folder`."""

    model: str
    init: Init | None = None
    size: int = 0
    folder: tuple[FolderFile, ...] = ()


@dataclass(frozen=True)
class CheckSpec:
    """Which dataset is looked at; what looks alike is told by `model_version`, or by the built-in weights if it is empty."""

    dataset: str
    model_version: str = ""


@dataclass(frozen=True)
class EnsembleMember:
    """`models/M/versions/V` with one of its profiles, its default if that is empty; only its share of all weights matters."""

    model_version: str
    profile: str = ""
    weight: float = 1


@dataclass(frozen=True)
class EnsembleSpec:
    """What becomes one model: 2 to 6 members, in order."""

    model: str
    members: tuple[EnsembleMember, ...]


@dataclass(frozen=True)
class ProfileSpec:
    """One more profile, which makes a new version with the network of `model_version`, `models/M/versions/V`.

    views: test-time views whose outputs are averaged: `identity`, `flip`, `scale-S`, `flip-scale-S`; empty means `identity`.
    tap: `pool`, or `embedding` behind the embedding FC; empty means `pool`.
    project_dim: values a vector after a PCA fitted on `dataset`; 0 for no projection.
    """

    model_version: str
    profile: str
    views: tuple[str, ...] = ()
    tap: str = ""
    project_dim: int = 0
    dataset: str = ""
    default_profile: bool = False


@dataclass(frozen=True)
class Job:
    name: str
    train: TrainSpec | None
    import_: ImportSpec | None
    check: CheckSpec | None
    ensemble: EnsembleSpec | None
    profile: ProfileSpec | None
    state: State
    progress: Progress | None
    create_time: datetime
    start_time: datetime | None
    end_time: datetime | None
    error: Problem | None
    model_version: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ModelProfile:
    """A way to make vectors: the output `tap` of the network, the mean over `views`, `projected` by a PCA to `space.dim` values.

    `tap` is empty for an ensemble, and where the server did not keep it.
    """

    space: Space
    dba_advice: DbaSpec | None
    tap: str = ""
    views: tuple[str, ...] = ()
    projected: bool = False


@dataclass(frozen=True)
class ModelVersion:
    name: str
    profiles: Mapping[str, ModelProfile]
    default_profile: str
    metrics: Mapping[str, float]
    origin: Origin
    dataset_fingerprint: str
    create_time: datetime
    size_bytes: int
    notes: tuple[str, ...]
    job: str


@dataclass(frozen=True)
class ModelAlias:
    """A name for a version that may move: `models/M/aliases/A`, written `M@A` where a version is asked for."""

    name: str
    version: str
    etag: str = ""


@dataclass(frozen=True)
class Model:
    name: str
    latest: ModelVersion
    version_count: int


@dataclass(frozen=True)
class ServedModel:
    name: str
    state: ServingState
    spaces: Mapping[str, Space]
    default_profile: str
    error: Problem | None
    golden_error: float
    device: str
    precision: str
    channels_last: bool = False
    threads: int = 0
    memory_bytes: int = 0
    aliases: tuple[str, ...] = ()
    waiting_aliases: tuple[str, ...] = ()
    compiled: bool = False


@dataclass(frozen=True)
class Cost:
    decode_seconds: float
    queue_seconds: float
    device_seconds: float
    batch_size: int
    wait_seconds: float = 0
    device: str = ""
    precision: str = ""


@dataclass(frozen=True)
class Target:
    """What to embed with: `models/M/versions/V`, `models/M@A` or `models/M`, and the space that it must give."""

    model: str
    profile: str = ""
    expected_space: Space | None = None

    @classmethod
    def of(cls, space: Space) -> Target:
        """What gives vectors of `space`, checked by the server before it decodes anything."""
        return cls(space.model_version, space.profile, space)


@dataclass(frozen=True, eq=False)
class Embeddings:
    """The answer to a few pictures.

    vectors: float32 [rows, dim]. results: for each picture its row of `vectors`, or why it has none.
    """

    vectors: NDArray[np.float32]
    space: Space
    results: tuple[int | Problem, ...]
    model_version: str
    cost: Cost


@dataclass(frozen=True, eq=False)
class Embedded:
    """A picture of a stream: `key` is the caller's; `vector` is float32 [dim], or None with the `problem` that it has.

    `cost` is that of all pictures of the stream that the device took together with this one, or of finding the problem.
    """

    key: Any
    vector: NDArray[np.float32] | None
    cost: Cost
    problem: Problem | None = None


@dataclass(frozen=True)
class Collection:
    name: str
    uid: str
    space: Space
    engine: Engine
    dba: DbaSpec | None
    recall_target: float
    revision: int
    item_count: int
    fresh_item_count: int
    active_build: str
    create_time: datetime
    expire_time: datetime | None
    etag: str
    dtype: DType


@dataclass(frozen=True)
class Alias:
    name: str
    collection: str
    etag: str


@dataclass(frozen=True)
class Item:
    """One thing that can be found. `revision` and the times are the server's."""

    id: str
    label: str = ""
    uri: str = ""
    thumbnail: bytes = b""
    content_sha256: bytes = b""
    payload: Mapping[str, Any] | None = None
    revision: int = 0
    create_time: datetime | None = None
    update_time: datetime | None = None


@dataclass(frozen=True)
class UpsertResult:
    """What became of an upsert; `failures` maps ids that were refused to why."""

    collection: str
    revision: int
    kept_count: int
    failures: Mapping[str, Problem]


@dataclass(frozen=True)
class ItemChange:
    """A change of the item `item.id`: of the fields that `update_mask` names, which are read from `item`.

    update_mask: of `label`, `uri`, `thumbnail`, `content_sha256`, `payload` (as a whole), `payload.KEY` (alone; taken away where `item` has
    no such key).
    """

    item: Item
    update_mask: tuple[str, ...]


@dataclass(frozen=True)
class UpdateResult:
    """What became of changes; `failures` maps ids whose change was refused to why."""

    collection: str
    revision: int
    updated_count: int
    failures: Mapping[str, Problem]


@dataclass(frozen=True)
class ValueCount:
    """A value of a field and how many items have it."""

    value: str | float | bool
    count: int


@dataclass(frozen=True)
class ValueCounts:
    """The values of a field, the most frequent first; `distinct_count` tells how many there are in all.

    missing_count: items whose field is missing, an object or a list.
    """

    values: tuple[ValueCount, ...]
    distinct_count: int
    missing_count: int
    revision: int
    collection: str


@dataclass(frozen=True)
class DeleteResult:
    revision: int
    deleted_count: int
    collection: str


@dataclass(frozen=True)
class ItemCount:
    """How many items there were at a revision."""

    count: int
    revision: int
    collection: str


@dataclass(frozen=True)
class Exported:
    """What an archive of a collection holds."""

    collection: str
    revision: int
    item_count: int
    time: datetime


@dataclass(frozen=True)
class Neighbour:
    """An item that was averaged into another, which itself has the weight 1; `similarity` is their cosine before that."""

    id: str
    weight: float
    similarity: float


@dataclass(frozen=True)
class Explanation:
    """Why a hit is one: its cosine with the raw vector, its places, from 1, by the vectors served and the raw ones, and what is in it."""

    raw_score: float
    rank: int
    raw_rank: int
    neighbours: tuple[Neighbour, ...]


@dataclass(frozen=True)
class Hit:
    """`score` is the cosine of the query with the vector served, which is `augmented` or raw; `fresh` items are newer than the build.

    `explanation` is there if it was asked for.
    """

    item: Item
    score: float
    fresh: bool
    augmented: bool
    explanation: Explanation | None = None


@dataclass(frozen=True)
class SearchResult:
    """`hits` holds those of each query, best first."""

    hits: tuple[tuple[Hit, ...], ...]
    collection: str
    revision: int
    build: str
    exact: bool
    search_k: int
    seconds: float
    source: Source


@dataclass(frozen=True)
class Expansion:
    """Query expansion: a search is repeated with the mean of the query and its `k` nearest items, 1 to 100, as they are served.

    Each item weighs its cosine to the power of `alpha` (αQE), 0 to 20; 0 lets all weigh as much as the query (AQE).
    """

    k: int
    alpha: float = 0.0


@dataclass(frozen=True, eq=False)
class Ranking:
    """Every query's best references, best first.

    indices: uint32 [queries, width], places in `reference_ids`. scores: float32 of the same shape, cosines.
    """

    query_ids: tuple[str, ...]
    reference_ids: tuple[str, ...]
    indices: NDArray[np.uint32]
    scores: NDArray[np.float32]
    query_collection: str
    query_revision: int
    reference_collection: str
    reference_revision: int


@dataclass(frozen=True)
class BuildSpec:
    """How to build; what is left out is the server's choice. `purge` leaves nothing of deleted items anywhere."""

    dba: DbaSpec | None = None
    trees: int = 0
    reduced_dim: int = 0
    force_engine: bool = False
    purge: bool = False


@dataclass(frozen=True)
class EffortPoint:
    search_k: int
    depth: int
    recall_at_10: float
    recall_at_10_low: float
    milliseconds: float


@dataclass(frozen=True)
class PlanEntry:
    """What answers searches for up to `k` hits, for single queries or, with `batch`, for 8 queries or more; milliseconds a query."""

    k: int
    batch: bool
    source: Source
    reduced_dim: int
    search_k: int
    depth: int
    recall: float
    recall_low: float
    milliseconds: float
    trees: int = 0
    links: int = 0


@dataclass(frozen=True)
class BuildReport:
    engine: Engine
    reason: str
    item_count: int
    dba: DbaSpec | None
    trees: int
    reduced_dim: int
    curve: tuple[EffortPoint, ...]
    chosen: EffortPoint | None
    recall_target: float
    probe_count: int
    size_bytes: int
    seconds: Mapping[str, float]
    plan: tuple[PlanEntry, ...]
    measured: tuple[PlanEntry, ...] = ()


@dataclass(frozen=True)
class Build:
    """One build. `kept`: it can be activated. `pinned`: no automatic build replaces it. `automatic`: nobody asked for it."""

    name: str
    spec: BuildSpec | None
    state: State
    progress: Progress | None
    active: bool
    revision: int
    report: BuildReport | None
    error: Problem | None
    create_time: datetime
    end_time: datetime | None
    kept: bool
    pinned: bool
    automatic: bool
