"""Losses and miners of pytorch-metric-learning by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lookalike_trainer.training import metric_learning_catalog as catalog
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.objective_recipe import MetricLearningRecipe, Parameters
from lookalike_trainer.training.sampler import stream_key

_REFUSALS = (TypeError, ValueError, AssertionError, NotImplementedError)


class MetricLearning(nn.Module):
    """A loss, over what a miner finds in the batch if there is one.

    Weights of the loss are weights of this module, and what it keeps beside them is in its state too.

    Args:
        key: of its section in the recipe.
        width: of the tap.
        classes: that are trained on.
        seed: what is drawn at random follows from it and from the number of batches so far.

    Raises:
        JobError: INVALID_RECIPE, if the library refuses a parameter.
    """

    def __init__(self, key: str, width: int, classes: int, recipe: MetricLearningRecipe, seed: int) -> None:
        super().__init__()
        from pytorch_metric_learning import distances, losses, miners

        self._key, self._seed = key, seed
        self._loss_name = recipe.loss
        distance = {} if recipe.distance is None else {"distance": self._made(distances, recipe.distance, {})}
        sizes = {"num_classes": classes, "embedding_size": width, "descriptors_dim": width, "l": width}
        filled = {name: sizes[name] for name in catalog.filled_in(recipe.loss)}
        self._loss = self._made(losses, recipe.loss, recipe.loss_params, **filled, **distance)
        self._mine = None if recipe.miner is None else self._made(miners, recipe.miner, recipe.miner_params, **distance)
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Float [n, width] and int64 [n] → a scalar.

        Raises:
            JobError: INVALID_RECIPE, if the loss cannot be had of such a batch or with such a miner.
        """
        count = self.get_buffer("batches").add_(1)
        with _own_randomness(features.device, "metric-learning", self._seed, self._key, int(count)):
            try:
                mined = None if self._mine is None else self._mine(features, labels)
                loss: Tensor = self._loss(features, labels, mined)
            except _REFUSALS as error:
                raise self._refused(self._loss_name, error) from error
        self._cut_from_this_batch()
        return loss

    def get_extra_state(self) -> dict[str, Tensor]:
        """Tensors that the library keeps as plain attributes, by their dotted names."""
        return {f"{path}.{name}": getattr(self.get_submodule(path), name).detach() for path, name in self._plain_tensors()}

    def set_extra_state(self, state: dict[str, Tensor]) -> None:
        """Take over what `get_extra_state` gave."""
        device = self.get_buffer("batches").device
        for key, value in state.items():
            path, _, name = key.rpartition(".")
            setattr(self.get_submodule(path), name, value.to(device))

    def _plain_tensors(self) -> list[tuple[str, str]]:
        """Path of the module and name of the attribute."""
        return [(path, name) for path, module in self.named_modules() for name, value in vars(module).items() if torch.is_tensor(value)]

    def _cut_from_this_batch(self) -> None:
        """What the library carries to the next batch must not carry this one's graph along, which is freed by then."""
        for path, name in self._plain_tensors():
            module = self.get_submodule(path)
            setattr(module, name, getattr(module, name).detach())

    def _made(self, module: Any, name: str, parameters: Parameters, **filled: Any) -> nn.Module:
        given = {key: list(value) if isinstance(value, tuple) else value for key, value in parameters.items()}
        try:
            made: nn.Module = getattr(module, name)(**given, **filled)
        except _REFUSALS as error:
            raise self._refused(name, error) from error
        return made

    def _refused(self, name: str, error: Exception) -> JobError:
        cause = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return JobError(Reason.INVALID_RECIPE, f"recipe key `objective.{self._key}`: {name} refuses: {cause}")


@contextmanager
def _own_randomness(device: torch.device, *key: object) -> Iterator[None]:
    """The library draws from torch's and numpy's global streams: inside, they start at a hash of the key."""
    kept = np.random.get_state()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        seed = stream_key(*key) % 2**32
        torch.manual_seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(kept)
