"""Weights files into networks, by name or by order, safely."""

import pickle
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from lookalike_model.network import RetrievalNetwork

_CONTAINERS = ("state_dict", "model_state_dict", "model")
_LISTED = 8


class WeightsError(ValueError):
    """The file cannot be loaded into this network; the message lists the names that do not fit."""


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What was loaded, and how.

    Attributes:
        by: whether tensors were matched by their names or by their order.
        loaded: number of tensors that went into the network.
        ignored: names in the file that belong to a classifier.
        message: the same in one sentence, for the user.
        classes: outputs of that classifier; None if there is none.
    """

    by: Literal["name", "order"]
    loaded: int
    ignored: tuple[str, ...]
    message: str
    classes: int | None = None


def load_weights(network: nn.Module, path: Path) -> LoadReport:
    """Load a weights file into a network's backbone.

    Names are tried first, then timm's own conversion of checkpoints for that family. When not one name matches but
    every tensor's shape fits in order, the tensors are loaded by order; not from safetensors, which keep no order.

    Args:
        network: a RetrievalNetwork, whose backbone is filled, or a timm network.
        path: a safetensors file, whatever its name, or one that `torch.load` reads with `weights_only`.

    Raises:
        WeightsError: the file cannot be read, holds code, or does not fit; nothing was loaded then.
    """
    backbone = network.backbone if isinstance(network, RetrievalNetwork) else network
    every = read_tensors(path)
    tensors, ignored = _without_classifier(every, backbone)
    if not _is_safetensors(path) and not tensors.keys() & backbone.state_dict().keys():
        return _load_by_order(backbone, tensors, ignored, path)
    if _misfits(backbone, tensors):
        tensors = _converted(backbone, tensors)
    if misfits := _misfits(backbone, tensors):
        raise WeightsError(f"{path.name} does not fit {_name(backbone)}: {misfits}")
    backbone.load_state_dict(tensors, strict=False)  # a missing counter is all that can be left
    message = f"{len(tensors)} tensors of {path.name} were loaded by name" + _ignoring(ignored)
    return LoadReport("name", len(tensors), ignored, message, _outputs([every[name] for name in ignored]))


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The named tensors of a weights file, on the CPU, out of their container and without a `module.` prefix.

    Raises:
        WeightsError: the file cannot be read, holds code, or holds no tensors.
    """
    content = _read(path)
    for container in _CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
            break
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path.name} holds a {type(content).__name__}, not named tensors")
    tensors = {str(name).removeprefix("module."): value for name, value in content.items() if torch.is_tensor(value)}
    if not tensors:
        raise WeightsError(f"{path.name} holds no tensors")
    return tensors


def _read(path: Path) -> Any:
    if not path.is_file():
        raise WeightsError(f"there is no weights file {path}")
    try:
        if _is_safetensors(path):
            return load_file(path)
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path.name} holds more than tensors (code, perhaps) and is not loaded; save its state_dict() alone, best as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path.name} cannot be read as a weights file: {reason}") from error


def _is_safetensors(path: Path) -> bool:
    """Told by the first bytes, the length of a JSON header and its brace: an uploaded file has no name to go by."""
    with path.open("rb") as file:
        start = file.read(9)
    return start[8:] == b"{" and int.from_bytes(start[:8], "little") <= path.stat().st_size


def _without_classifier(tensors: dict[str, Tensor], backbone: nn.Module) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    classifier = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()
    layers = (classifier,) if isinstance(classifier, str) else tuple(classifier)
    prefixes = tuple(f"{layer}." for layer in layers)
    ignored = tuple(name for name in tensors if name.startswith(prefixes))
    return {name: value for name, value in tensors.items() if name not in ignored}, ignored


def _load_by_order(backbone: nn.Module, tensors: dict[str, Tensor], ignored: tuple[str, ...], path: Path) -> LoadReport:
    ours = _uncounted(backbone.state_dict())
    theirs = _uncounted(tensors)
    surplus = tuple(theirs)[len(ours) :]
    fits = len(theirs) >= len(ours) and all(a.shape == b.shape for a, b in zip(ours.values(), theirs.values(), strict=False))
    if not fits or not _is_classifier([theirs[name] for name in surplus]):
        raise WeightsError(
            f"{path.name} does not fit {_name(backbone)}: no name matches, and the shapes do not fit in order; "
            f"the network has {_listed(ours)}; the file has {_listed(theirs)}"
        )
    backbone.load_state_dict(dict(zip(ours, theirs.values(), strict=False)), strict=False)
    ignored += surplus
    message = f"no name in {path.name} matches, but its tensors fit in order: {len(ours)} were loaded by order" + _ignoring(ignored)
    return LoadReport("order", len(ours), ignored, message, _outputs([theirs[name] for name in surplus]))


def _outputs(classifier: list[Tensor]) -> int | None:
    return next((len(tensor) for tensor in classifier if tensor.ndim > 1), None)


def _is_classifier(tensors: list[Tensor]) -> bool:
    """Nothing, or what ends a classification network: a matrix and perhaps its bias."""
    if not tensors:
        return True
    matrix, *bias = tensors
    return matrix.ndim in (2, 4) and (not bias or (len(bias) == 1 and bias[0].shape == matrix.shape[:1]))


def _misfits(backbone: nn.Module, tensors: Mapping[str, Tensor]) -> str:
    """What keeps the tensors from fitting by name, with a bounded list of names; empty if nothing does."""
    ours = backbone.state_dict()
    missing = [name for name in _uncounted(ours) if name not in tensors]
    unknown = [name for name in _uncounted(tensors) if name not in ours]
    reshaped = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in ours.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    kinds = (("missing", missing), ("not in the network", unknown), ("of another shape", reshaped))
    return "; ".join(f"{kind}: {_listed(names)}" for kind, names in kinds if names)


def _converted(backbone: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors after timm's conversion for this family (other names, position embeddings of another size)."""
    module = sys.modules[type(backbone).__module__]
    convert = cast("Callable[..., dict[str, Tensor]] | None", getattr(module, "checkpoint_filter_fn", None))
    if convert is None:
        return tensors
    try:
        return dict(convert(dict(tensors), backbone))
    except (KeyError, IndexError, RuntimeError, ValueError, AttributeError, AssertionError, TypeError):
        return tensors  # not one of the formats that timm converts: the misfits are reported as they are


def _uncounted(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without batch norm's counters of batches, which some files lack and nothing needs."""
    return {name: t for name, t in tensors.items() if t.ndim > 0 or t.is_floating_point()}


def _name(backbone: nn.Module) -> str:
    return str(getattr(backbone, "pretrained_cfg", {}).get("architecture", type(backbone).__name__))


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - _LISTED} more" if len(every) > _LISTED else ""
    return ", ".join(every[:_LISTED]) + more


def _ignoring(names: tuple[str, ...]) -> str:
    return f"; the classifier ({', '.join(names)}) was left out" if names else ""
