"""Which precision, memory format, compiler and number of threads run a model fastest here: measured once, proven, remembered."""

from __future__ import annotations

import itertools
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal, NamedTuple

import structlog
import torch
from pydantic import TypeAdapter, ValidationError

from lookalike_embedder.trial import Threads, Trial, seconds_a_picture, seconds_of_one
from lookalike_model.embedding_model import PictureModel
from lookalike_model.golden import Proof
from lookalike_model.numerics import CompileError, Numerics, Precision
from lookalike_model.records import Record

log = structlog.get_logger()

PrecisionSetting = Literal["auto", "fp32", "bf16"]
Proofs = Mapping[str, Proof]

# What is not the plain way must be so much faster to be chosen: measurements waver, and fp32 is nearest to what was trained.
_HANDICAP: dict[Precision, float] = {"fp32": 1.05, "bf16": 1.1}
# Batches side by side too: a call that comes meanwhile waits for them, and has fewer threads.
_HANDICAP_SIDE_BY_SIDE = 1.1
_BATCH_ON_CPU = 8
# Of the time for measuring, what single pictures have besides.
_SHARE_OF_SINGLE = 0.1


class Way(NamedTuple):
    """A way to run batches on a device."""

    numerics: Numerics
    threads: int


class Chosen(NamedTuple):
    """How a model computes, and what came of its golden pictures that way, by profile."""

    numerics: Numerics
    threads: Threads
    proofs: Proofs

    @property
    def ok(self) -> bool:
        """Whether the model may be served so."""
        return all(proof.ok for proof in self.proofs.values())


@dataclass(frozen=True, slots=True)
class Measuring:
    """What may be chosen, and how long may be measured.

    Attributes:
        precision: the one that is asked for, or `auto`.
        threads: of the CPU; None lets them be chosen, up to `cores`.
        batch_size: pictures in a batch at most.
        seconds: that measuring a model may take; 0 takes the plain way, fp32 with channels last.
    """

    precision: PrecisionSetting
    threads: int | None
    cores: int
    batch_size: int
    seconds: float

    def candidates(self, device: torch.device) -> list[Way]:
        """What may be chosen on a device, the plain way first, then what is most likely to be faster."""
        precisions: tuple[Precision, ...] = ("fp32", "bf16") if self.precision == "auto" else (self.precision,)
        counts = self.thread_counts(device)
        by_torch = [
            Way(Numerics(precision, channels_last), threads)
            for threads, channels_last, precision in itertools.product(counts, (True, False), precisions)
        ]
        compiled = [
            Way(Numerics(precision, compiled=True), threads)
            for threads, precision in itertools.product(counts, reversed(precisions))
            if device.type == "cpu"
        ]
        return [by_torch[0], *compiled, *by_torch[1:]] if self.seconds else by_torch[:1]

    def thread_counts(self, device: torch.device) -> list[int]:
        """How many threads a batch may have on a device."""
        if device.type != "cpu":
            return [1]
        return [self.threads] if self.threads else list(dict.fromkeys((1, max(1, self.cores // 2), self.cores)))

    def side_by_side(self, threads: int, device: torch.device) -> int:
        """How many batches with so many threads run at a time on a device."""
        return max(1, self.cores // threads) if device.type == "cpu" else 1


class _Remembered(Record):
    precision: Precision
    channels_last: bool
    compiled: bool
    batch_threads: int
    single_threads: int
    pictures_per_second: float


_REMEMBERED: TypeAdapter[dict[str, _Remembered]] = TypeAdapter(dict[str, _Remembered])


class FastestNumerics:
    """Chooses how models compute. Not safe for concurrent calls."""

    def __init__(self, measuring: Measuring, file: Path, try_alone: Callable[[Callable[[], float]], float]) -> None:
        """`file` is where this machine's choices are kept; it may be shared with other machines and servers.

        `try_alone` runs a trial of single pictures where they will run, since OpenMP's threads are not alike everywhere.
        """
        self._measuring = measuring
        self._file = file
        self._try_alone = try_alone

    def choose(self, models: Sequence[PictureModel], prove: Callable[[], Proofs]) -> Chosen:
        """Make `models`, the profiles of one version on one device, compute the fastest way that `prove` accepts.

        Where it accepts none, what is returned is not ok.
        """
        key = self._key(models[0])
        remembered = self._read().get(key)
        if remembered is not None:
            numerics = Numerics(remembered.precision, remembered.channels_last, remembered.compiled)
            threads = Threads(remembered.batch_threads, remembered.single_threads)
            if _used(models, numerics) and (chosen := _proven(models[0], threads, prove)).ok:
                return chosen
        candidates = self._measuring.candidates(models[0].device)
        paces = self._paces(models[0], candidates)
        handicaps = {way: self._handicap(way, models[0].device) for way in candidates[1:]}
        for way in sorted(paces, key=lambda each: paces[each] * handicaps.get(each, 1.0)):
            if not _used(models, way.numerics):
                continue
            if (chosen := _proven(models[0], Threads(way.threads, way.threads), prove)).ok:
                return self._finish(chosen, models[0], key, paces[way]) if len(candidates) > 1 else chosen
        return chosen

    def _finish(self, chosen: Chosen, model: PictureModel, key: str, pace: float) -> Chosen:
        """Choose the threads of a single picture, and remember all."""
        single = self._threads_of_one(model)
        self._remember(
            key,
            _Remembered(
                precision=chosen.numerics.precision,
                channels_last=chosen.numerics.channels_last,
                compiled=chosen.numerics.compiled,
                batch_threads=chosen.threads.batch,
                single_threads=single,
                pictures_per_second=1 / pace,
            ),
        )
        return chosen._replace(threads=Threads(chosen.threads.batch, single))

    def _threads_of_one(self, model: PictureModel) -> int:
        counts = self._measuring.thread_counts(model.device)
        if len(counts) == 1:
            return counts[0]
        seconds = self._measuring.seconds * _SHARE_OF_SINGLE / len(counts)
        paces = {count: self._try_alone(partial(seconds_of_one, model, count, seconds)) for count in counts}
        return min(counts, key=lambda count: paces[count])

    def _paces(self, model: PictureModel, candidates: Sequence[Way]) -> dict[Way, float]:
        """Seconds a picture for each candidate that there was time for; the first is always there."""
        if len(candidates) == 1:
            return {candidates[0]: 1.0}
        count = self._measuring.batch_size if model.device.type != "cpu" else min(_BATCH_ON_CPU, self._measuring.batch_size)
        spent = 0.0
        paces: dict[Way, float] = {}
        for way in candidates:
            if paces and spent > self._measuring.seconds:
                break
            if not _used([model], way.numerics):
                continue
            started = time.perf_counter()
            trial = Trial(way.threads, self._measuring.side_by_side(way.threads, model.device), count)
            paces[way] = seconds_a_picture(model, trial, self._measuring.seconds / len(candidates))
            spent += time.perf_counter() - started
        fastest = min(paces, key=lambda each: paces[each])
        log.info("numerics_measured", model=model.architecture, device=str(model.device), tried=len(paces), fastest=str(fastest))
        return paces

    def _handicap(self, way: Way, device: torch.device) -> float:
        alone = self._measuring.side_by_side(way.threads, device) == 1
        return _HANDICAP[way.numerics.precision] * (1 if alone else _HANDICAP_SIDE_BY_SIDE)

    def _key(self, model: PictureModel) -> str:
        wanted, device = self._measuring, model.device
        processor = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
        threads = f"{wanted.threads} threads" if wanted.threads else f"up to {wanted.cores} threads"
        libraries = f"torch {torch.__version__} | openvino {version('openvino')}"
        parts = (model.fingerprint[:20], model.architecture, processor, threads, libraries, wanted.precision)
        return " | ".join((*parts, f"batches of {wanted.batch_size}"))

    def _read(self) -> dict[str, _Remembered]:
        try:
            return _REMEMBERED.validate_json(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValidationError) as error:
            log.warning("remembered_numerics_unreadable", file=str(self._file), error=str(error))
            return {}

    def _remember(self, key: str, chosen: _Remembered) -> None:
        known = self._read()
        known[key] = chosen
        aside = self._file.with_name(f".{self._file.name}.{time.monotonic_ns()}.part")
        try:
            aside.parent.mkdir(parents=True, exist_ok=True)
            aside.write_bytes(_REMEMBERED.dump_json(known, indent=1))
            aside.replace(self._file)
        except OSError as error:  # it is measured again the next time
            log.warning("numerics_not_remembered", file=str(self._file), error=str(error))


def _used(models: Sequence[PictureModel], numerics: Numerics) -> bool:
    """Let models compute so; False if one cannot be compiled."""
    try:
        for model in models:
            model.use(numerics)
    except CompileError as error:
        log.warning("not_compiled", model=models[0].architecture, error=str(error))
        return False
    return True


def _proven(model: PictureModel, threads: Threads, prove: Callable[[], Proofs]) -> Chosen:
    chosen = Chosen(model.numerics, threads, prove())
    if not chosen.ok:
        worst = max(proof.worst for proof in chosen.proofs.values())
        log.warning("numerics_refused", model=model.architecture, numerics=str(chosen.numerics), golden_error=worst)
    return chosen


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
