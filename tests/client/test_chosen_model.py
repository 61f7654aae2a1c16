"""Which model is used, and when the built-in one is made."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lookalike import AsyncClient, NotFound, State
from lookalike.workflows import Observer, choose_model


class Trainer:
    """A trainer with some models, none of them trained by it; imports make the model that they name."""

    def __init__(self, *models: str) -> None:
        self.models, self.imported = set(models), list[str]()

    async def list_models(self) -> list[Any]:
        return []

    async def get_model_version(self, name: str) -> Any:
        model = name.removeprefix("models/").partition("/")[0]
        if model not in self.models:
            raise NotFound(f"there is no {name}", reason="MODEL_NOT_FOUND")
        return SimpleNamespace(name=f"models/{model}/versions/1", default_profile="plain", profiles={"plain": None, "flip": None})

    async def create_job(self, spec: Any, _: str) -> Any:
        self.imported.append(spec.model)
        self.models.add(spec.model)
        return SimpleNamespace(state=State.SUCCEEDED, model_version=f"models/{spec.model}/versions/1")


async def chosen(trainer: Trainer, model: str | None) -> tuple[str, str]:
    found = await choose_model(cast("AsyncClient", SimpleNamespace(trainer=trainer)), model, Observer())
    return found.version.name, found.profile_name


@pytest.mark.parametrize(
    ("model", "profile"), [(None, "plain"), ("zero-shot", "plain"), ("models/zero-shot", "plain"), ("zero-shot:flip", "flip")]
)
async def test_the_built_in_model_is_imported_once_whoever_wants_it(model: str | None, profile: str) -> None:
    trainer = Trainer("mine")
    for _ in range(2):
        assert await chosen(trainer, model) == ("models/zero-shot/versions/1", profile)
    assert trainer.imported == ["zero-shot"]


async def test_a_named_model_imports_nothing() -> None:
    trainer = Trainer("mine")
    assert await chosen(trainer, "mine") == ("models/mine/versions/1", "plain")
    with pytest.raises(NotFound):
        await chosen(trainer, "other")
    assert trainer.imported == []
