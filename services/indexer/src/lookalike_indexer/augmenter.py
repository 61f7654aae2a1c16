"""The thread that augments fresh items: off the way of writes and searches, in small batches, one collection after another."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Protocol

import structlog
from prometheus_client import Counter

from lookalike_indexer.collection import OpenCollection
from lookalike_runtime.errors import NotFound

AUGMENTED = Counter("lookalike_augmented_items_total", "Vectors that were augmented after their build.")
FAILURES = Counter("lookalike_augmentation_failures_total", "Batches of fresh items whose augmentation failed.")

# Items of a batch: their scores against a tile of the others are 4 MiB.
_BATCH = 256
# Seconds that a collection is left alone after a failure.
_REST = 60.0
_NICENESS = 10

log = structlog.get_logger()


class Opened(Protocol):
    """Knows the collections that are open."""

    def opened(self) -> list[OpenCollection]: ...


class Augmenter:
    """Augments fresh items of all open collections whose build is augmented. A failure is logged and counted, and ends nothing."""

    def __init__(self, collections: Opened, seconds: float) -> None:
        """Look for fresh items every `seconds`."""
        self._collections = collections
        self._seconds = seconds
        self._stopping = threading.Event()
        self._resting: dict[str, float] = {}
        self._thread = threading.Thread(target=self._run, name="augmenter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the batch that is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def augment_all(self) -> None:
        """Augment what waits now, a batch of each collection in turn."""
        busy = self._collections.opened()
        while busy:
            busy = [each for each in busy if not self._stopping.is_set() and self._augment_batch(each)]

    def _run(self) -> None:
        if sys.platform == "linux":
            # There a thread has a niceness of its own.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while not self._stopping.wait(self._seconds):
            self.augment_all()

    def _augment_batch(self, collection: OpenCollection) -> bool:
        """Return whether more may be waiting."""
        if self._resting.get(collection.uid, 0.0) > time.monotonic():
            return False
        try:
            waited, augmented = collection.augment_waiting(_BATCH)
        except NotFound:  # it was deleted meanwhile
            return False
        except Exception:
            FAILURES.inc()
            self._resting[collection.uid] = time.monotonic() + _REST
            log.exception("augmentation_failed", collection=collection.name, then="its fresh items serve raw", seconds_to_retry=_REST)
            return False
        self._resting.pop(collection.uid, None)
        AUGMENTED.inc(augmented)
        return waited == _BATCH
