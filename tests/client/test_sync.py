"""The synchronous client is the asynchronous one, method by method."""

from __future__ import annotations

import inspect
import threading

import pytest

from lookalike import Client, ServerNotReachable, Servers, _sync
from lookalike._embedder import AsyncEmbedder
from lookalike._indexer import AsyncIndexer
from lookalike._trainer import AsyncTrainer


@pytest.mark.parametrize(
    ("synchronous", "asynchronous"),
    [(_sync.Trainer, AsyncTrainer), (_sync.Embedder, AsyncEmbedder), (_sync.Indexer, AsyncIndexer)],
)
def test_every_method_is_there_with_its_signature(synchronous: type, asynchronous: type) -> None:
    ours = {name: value for name, value in vars(synchronous).items() if not name.startswith("_")}
    theirs = {name: value for name, value in inspect.getmembers(asynchronous, inspect.isfunction) if not name.startswith("_")}
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert inspect.signature(ours[name]) == inspect.signature(value)
        assert ours[name].__doc__ == value.__doc__
        assert not inspect.iscoroutinefunction(inspect.unwrap(ours[name], stop=lambda _: True))


def test_error_reaches_the_caller_and_close_ends_the_thread() -> None:
    with Client(Servers(trainer="127.0.0.1:1"), token="") as client:
        with pytest.raises(ServerNotReachable):
            client.trainer.get_job("jobs/1")
        assert "lookalike" in [thread.name for thread in threading.enumerate()]
    assert "lookalike" not in [thread.name for thread in threading.enumerate()]
