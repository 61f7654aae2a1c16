"""What the indexer keeps and reports, as plain immutable values that turn to JSON and back."""

from __future__ import annotations

import time
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from lookalike_retrieval.dba import DEFAULT_POWER, Weights

Engine = Literal["annoy", "exact", "hnsw"]
Source = Literal["annoy", "scan", "ivf", "exact", "hnsw"]
DType = Literal["float32", "float16"]
State = Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED", "CANCELLED"]
ENDED: frozenset[State] = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})


def now() -> int:
    """Return the time in microseconds since 1970, the unit of every time here."""
    return time.time_ns() // 1_000


class Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class Space(Record):
    """Identity of an embedding; vectors compare by cosine, the only metric there is."""

    fingerprint: str
    model: str
    version: int
    profile: str
    dim: int

    def __str__(self) -> str:
        return f"{self.fingerprint} (model {self.model!r}, version {self.version}, profile {self.profile!r}, {self.dim} dimensions)"


class Dba(Record):
    """Augmentation with `k` neighbours besides the item itself, 0 is off; `power` is the exponent of the weights `power`."""

    k: int = 0
    weights: Weights = "linear"
    power: float = DEFAULT_POWER
    rounds: int = 1


class Collection(Record):
    """What the catalog knows of a collection. `pinned`: its active build was activated by a call; no automatic build replaces it."""

    uid: str
    name: str
    space: Space
    engine: Engine
    dba: Dba
    recall_target: float
    create_time: int
    expire_time: int | None = None
    active_build: int | None = None
    dtype: DType = "float32"
    pinned: bool = False


class Alias(Record):
    """A name that points at the collection `collection`."""

    name: str
    collection: str
    etag: str


class BuildSpec(Record):
    """How a build was asked for: `dba` None means as the collection says, 0 means the default.

    `purge`: older builds go, and the store is wiped, once it serves.
    """

    dba: Dba | None = None
    trees: int = 0
    reduced_dim: int = 0
    force_engine: bool = False
    purge: bool = False


class EffortPoint(Record):
    """Recall at 10 (with the lower end of its 95 % interval) and median milliseconds a query of one effort."""

    search_k: int
    depth: int
    recall: float
    recall_low: float
    milliseconds: float


class Index(NamedTuple):
    """Where candidates are looked for: a source, the dimensions that it sees (0 if exact), Annoy's trees, or hnswlib's links."""

    source: Source
    reduced_dim: int = 0
    trees: int = 0
    links: int = 0


class PlanEntry(Record):
    """What answers searches for up to `k` hits, single queries or batches: recall at min(k, n) as in EffortPoint, milliseconds a query.

    In what was measured, milliseconds are 0 where it was not timed.
    """

    k: int
    batch: bool
    source: Source
    reduced_dim: int = 0
    search_k: int = 0
    depth: int = 0
    recall: float = 1.0
    recall_low: float = 1.0
    milliseconds: float
    trees: int = 0
    links: int = 0

    @property
    def index(self) -> Index:
        return Index(self.source, self.reduced_dim, self.trees, self.links)


class BuildReport(Record):
    """What a build came to. `curve` and `chosen` are Annoy's for 10 hits of single queries; `plan` is empty where nothing was measured.

    `measured` holds every option of every source, those of the plan among them.
    """

    engine: Engine
    reason: str
    revision: int
    item_count: int
    dba: Dba
    trees: int = 0
    reduced_dim: int = 0
    curve: tuple[EffortPoint, ...] = ()
    chosen: EffortPoint | None = None
    plan: tuple[PlanEntry, ...] = ()
    measured: tuple[PlanEntry, ...] = ()
    recall_target: float
    probe_count: int = 0
    size_bytes: int = 0
    seconds: dict[str, float] = {}


class Progress(Record):
    """`done` of `total` units of a stage; `total` 0 while it is not known."""

    stage: str
    done: int = 0
    total: int = 0
    unit: str = "items"


class Failure(Record):
    """Why a build failed: a status code by name, a stable reason, a sentence."""

    code: str
    reason: str
    message: str


class Build(Record):
    """One build. `kept` tells whether its files are there to be activated; `automatic` that nobody asked for it.

    One that is kept and RUNNING serves already, while what is older is wiped.
    """

    number: int
    request_id: str
    spec: BuildSpec
    state: State = "PENDING"
    progress: Progress | None = None
    kept: bool = False
    automatic: bool = False
    report: BuildReport | None = None
    error: Failure | None = None
    create_time: int
    end_time: int | None = None


class Event(Record):
    """One thing that happened to a build; `sequence` counts from 1 without gaps."""

    sequence: int
    time: int
    state: State
    progress: Progress | None = None
    message: str = ""
    metrics: dict[str, float] = {}
    error: Failure | None = None
