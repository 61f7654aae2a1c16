"""What training starts from: weights for a network, and what is known about it."""

from dataclasses import dataclass, field
from pathlib import Path

import timm
import torch
from huggingface_hub import hf_hub_download

from lookalike_images import Preprocessing
from lookalike_model.builtin import EFFICIENTNET_LITE0, BuiltinError, builtin_weights
from lookalike_model.bundle import Bundle, BundleError, read_bundle
from lookalike_model.network import NetworkError, RetrievalNetwork, check_architecture
from lookalike_model.spec import ChannelStatistics, EmbeddingSpec, NetworkSpec, Pool
from lookalike_model.timm_config import statistics_of
from lookalike_model.weights import WeightsError, load_weights
from lookalike_trainer.training.errors import JobError, Reason
from lookalike_trainer.training.job import Start


@dataclass(frozen=True)
class StartingPoint:
    """A start, looked up but not loaded yet.

    Attributes:
        architecture: timm's name, without a tag.
        statistics: what pixels are normalised with.
        weights: the file of the backbone; None for random weights.
        bundle: an earlier job's, if that is what is started from.
    """

    architecture: str
    statistics: ChannelStatistics
    weights: Path | None = None
    bundle: Bundle | None = field(default=None, repr=False)

    @property
    def pool(self) -> Pool | None:
        """The bundle's pooling."""
        return None if self.bundle is None else self.bundle.network.spec.pool

    @property
    def embedding(self) -> EmbeddingSpec | None:
        """The bundle's embedding FC."""
        return None if self.bundle is None else self.bundle.network.spec.embedding

    @property
    def preprocessing(self) -> Preprocessing | None:
        """The bundle's preprocessing."""
        return None if self.bundle is None else self.bundle.preprocessing


def open_start(start: Start, architecture: str | None) -> StartingPoint:
    """Look up what is started from.

    Args:
        architecture: the recipe's; None leaves it to the start.

    Raises:
        JobError: the weights are not there, or belong to another network than the recipe's.
    """
    try:
        point = _OPENERS[start.kind](start, architecture)
        check_architecture(point.architecture)
    except NetworkError as error:
        raise JobError(Reason.INVALID_NETWORK, str(error)) from error
    except BuiltinError as error:
        raise JobError(Reason.WEIGHTS_MISSING, str(error)) from error
    except BundleError as error:
        raise JobError(Reason.INVALID_WEIGHTS, f"the model to start from cannot be read: {error}") from error
    if architecture not in (None, point.architecture):
        raise JobError(
            Reason.INVALID_RECIPE,
            f"network.architecture is `{architecture}`, but the weights to start from are of `{point.architecture}`; "
            "leave it `auto`, or start from other weights",
        )
    return point


def build_network(spec: NetworkSpec, point: StartingPoint, seed: int, class_fc: int | None = None) -> tuple[RetrievalNetwork, str | None]:
    """The network with its starting weights, and a sentence about what was loaded and what was not.

    Args:
        class_fc: outputs of the class FC that training puts on the network, if it does.

    Raises:
        JobError: the network cannot be built, or the weights do not fit it.
    """
    torch.manual_seed(seed)
    try:
        network = RetrievalNetwork(spec, point.statistics)
        report = None if point.weights is None else load_weights(network, point.weights)
    except NetworkError as error:
        raise JobError(Reason.INVALID_NETWORK, str(error)) from error
    except WeightsError as error:
        raise JobError(Reason.INVALID_WEIGHTS, str(error)) from error
    told = [] if report is None else [report.message]
    if point.bundle is not None:
        told.append(_load_heads(network, point.bundle.network))
    earlier = _class_fc_of(point.bundle) if point.bundle else report and report.classes
    if class_fc and earlier:
        told.append(f"the class FC of {earlier} outputs is replaced by one of {class_fc}, with random weights")
    return network, "; ".join(told) or None


def _load_heads(network: RetrievalNetwork, earlier: RetrievalNetwork) -> str:
    """Take over what lies behind the backbone where name and shape are the same, and say what is not."""
    ours = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("backbone.")}
    theirs = {name: tensor for name, tensor in earlier.state_dict().items() if not name.startswith("backbone.")}
    fitting = {name: theirs[name] for name, t in ours.items() if name in theirs and theirs[name].shape == t.shape}
    network.load_state_dict(fitting, strict=False)
    fresh = [_compared(name, ours[name], theirs.get(name)) for name in sorted(ours.keys() - fitting.keys())]
    unused = sorted(theirs.keys() - ours.keys())
    told = [f"new, with random weights: {', '.join(fresh)}"] if fresh else []
    told += [f"not taken over: {', '.join(unused)}"] if unused else []
    return "; ".join(told) or "all that lies behind the backbone was kept"


def _compared(name: str, ours: torch.Tensor, theirs: torch.Tensor | None) -> str:
    return name if theirs is None else f"{name} {tuple(ours.shape)} instead of {tuple(theirs.shape)}"


def _class_fc_of(bundle: Bundle) -> int | None:
    """Outputs of the class FC that a bundle was trained with, which is not in it; None if there was none."""
    description = bundle.description
    recipe = description.recipe.get("recipe")
    objective = recipe.get("objective", {}) if isinstance(recipe, dict) else {}
    if description.data is None or not objective.get("cross_entropy"):
        return None
    return description.data.classes - description.data.held_out_classes


def _open_builtin(start: Start, _architecture: str | None) -> StartingPoint:
    weights = builtin_weights(start.name or EFFICIENTNET_LITE0.name)
    return StartingPoint(weights.architecture, statistics_of(weights.architecture), weights.path())


def _open_random(start: Start, architecture: str | None) -> StartingPoint:
    name = start.name or architecture or EFFICIENTNET_LITE0.architecture
    return StartingPoint(_untagged(name), statistics_of(name))


def _open_weights(start: Start, architecture: str | None) -> StartingPoint:
    name = start.name or architecture
    if name is None or start.path is None:
        raise JobError(Reason.INVALID_JOB, "to start from a weights file, name the timm network that it is for")
    return StartingPoint(_untagged(name), statistics_of(name), Path(start.path))


def _open_timm(start: Start, architecture: str | None) -> StartingPoint:
    name = start.name or architecture
    if name is None:
        raise JobError(Reason.INVALID_JOB, "to start from timm's weights, name the network")
    return StartingPoint(_untagged(name), statistics_of(name), timm_weights(name))


def _open_bundle(start: Start, _architecture: str | None) -> StartingPoint:
    bundle = read_bundle(Path(start.path or ""))
    network = bundle.network
    return StartingPoint(network.spec.architecture, network.statistics, bundle.folder / "model.safetensors", bundle)


_OPENERS = {
    "builtin": _open_builtin,
    "random": _open_random,
    "weights": _open_weights,
    "timm": _open_timm,
    "bundle": _open_bundle,
}


def timm_weights(name: str) -> Path:
    """timm's own weights for a network: from this machine's cache, else from timm's hub.

    Raises:
        NetworkError: timm does not know the network.
        JobError: WEIGHTS_MISSING, if they are neither here nor can be fetched.
    """
    statistics_of(name)
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.hf_hub_id:
        try:
            return Path(hf_hub_download(config.hf_hub_id, "model.safetensors"))
        except Exception as error:  # whatever the network, a proxy or the hub may answer
            cause = str(error).splitlines()[0]
            raise _missing(name, f"{config.hf_hub_id} is neither in the cache nor reachable: {cause}") from error
    raise _missing(name, "timm publishes none")


def _missing(name: str, cause: str) -> JobError:
    return JobError(
        Reason.WEIGHTS_MISSING,
        f"there are no weights of timm's for `{name}` ({cause}). Give a weights file, or use the built-in `{EFFICIENTNET_LITE0.name}`",
    )


def _untagged(name: str) -> str:
    return name.partition(".")[0]
