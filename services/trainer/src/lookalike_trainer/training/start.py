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


def build_network(spec: NetworkSpec, point: StartingPoint, seed: int) -> tuple[RetrievalNetwork, str | None]:
    """The network with its starting weights, and a sentence about what was loaded.

    Raises:
        JobError: the network cannot be built, or the weights do not fit it.
    """
    torch.manual_seed(seed)
    try:
        network = RetrievalNetwork(spec, point.statistics)
        message = None if point.weights is None else load_weights(network, point.weights).message
    except NetworkError as error:
        raise JobError(Reason.INVALID_NETWORK, str(error)) from error
    except WeightsError as error:
        raise JobError(Reason.INVALID_WEIGHTS, str(error)) from error
    if point.bundle is not None:
        message = f"{message}; {_load_heads(network, point.bundle.network)}"
    return network, message


def _load_heads(network: RetrievalNetwork, earlier: RetrievalNetwork) -> str:
    """Take over what lies behind the backbone where name and shape are the same."""
    ours = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("backbone.")}
    theirs = earlier.state_dict()
    fitting = {name: theirs[name] for name, t in ours.items() if name in theirs and theirs[name].shape == t.shape}
    network.load_state_dict(fitting, strict=False)
    fresh = sorted(ours.keys() - fitting.keys())
    return f"new, with random weights: {', '.join(fresh)}" if fresh else "all that lies behind the backbone was kept"


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
