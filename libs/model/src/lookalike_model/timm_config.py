"""timm's own description of a network, both ways: what it says a network wants, and the file that it reads."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import timm

from lookalike_images import Preprocessing, ResizeFilter, ResizeMode
from lookalike_model.network import NetworkError, RetrievalNetwork, check_architecture
from lookalike_model.spec import ChannelStatistics, Pool

_CROP_MODE: dict[ResizeMode, str] = {"squash": "squash", "crop": "center", "pad": "border"}
_RESIZE = {mode: resize for resize, mode in _CROP_MODE.items()}


def statistics_of(name: str) -> ChannelStatistics:
    """Mean and deviation that timm's weights for this network (`architecture` or `architecture.tag`) were trained with.

    Raises:
        NetworkError: timm does not know the network.
    """
    config = _pretrained_config(name)
    mean, std = (tuple(map(float, values)) for values in (config.mean, config.std))
    return ChannelStatistics.model_validate({"mean": mean, "std": std})


def preprocessing_of(name: str, size: int | None = None) -> Preprocessing:
    """Size, crop and resize filter that timm's weights for this network were tested with.

    Args:
        name: of the network, with a tag where other weights than its first are meant.
        size: pixels a side in place of timm's.

    Raises:
        NetworkError: timm does not know the network.
    """
    config = _pretrained_config(name)
    height = int((config.test_input_size or config.input_size)[1])
    crop = config.test_crop_pct or config.crop_pct
    return Preprocessing(
        size=size or height,
        resize=_RESIZE.get(config.crop_mode, "crop"),
        crop_pct=float(crop),
        filter=config.interpolation if config.interpolation in get_args(ResizeFilter) else "bicubic",
    )


def built_for_one_size(name: str) -> bool:
    """Whether the network is built for pictures of one size, as most ViTs are.

    Raises:
        NetworkError: timm does not know the network.
    """
    return bool(_pretrained_config(name).fixed_input_size)


@dataclass(frozen=True, slots=True)
class TimmFolder:
    """What the `config.json` of a timm folder says. `pool` is None where it says nothing that we pool by."""

    architecture: str
    statistics: ChannelStatistics
    preprocessing: Preprocessing
    pool: Pool | None


def read_timm_config(document: Any) -> TimmFolder:
    """What a `config.json` says that timm or a hub wrote; what it leaves out is timm's own for the network.

    Raises:
        NetworkError: it names no network that timm knows, or a value that cannot be.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("architecture"), str):
        raise NetworkError("config.json names no `architecture`: it is not one that timm writes")
    name = str(document["architecture"]).partition(".")[0]
    own = preprocessing_of(name)
    told = {**document, **(document.get("pretrained_cfg") or {})}
    statistics = statistics_of(name)
    try:
        size = int((told.get("input_size") or (3, own.size, own.size))[-1])
        crop = float(told.get("crop_pct") or own.crop_pct)
        resize_filter: ResizeFilter = told["interpolation"] if told.get("interpolation") in get_args(ResizeFilter) else own.filter
        resize = _RESIZE.get(str(told.get("crop_mode")), own.resize)
        preprocessing = Preprocessing(size, resize, crop, resize_filter)
        mean, std = (tuple(map(float, told.get(key) or getattr(statistics, key))) for key in ("mean", "std"))
        statistics = ChannelStatistics.model_validate({"mean": mean, "std": std})
    except (ValueError, TypeError, IndexError) as error:
        raise NetworkError(f"config.json: {error}") from error
    pool = {**told, **(document.get("model_args") or {})}.get("global_pool")
    return TimmFolder(name, statistics, preprocessing, pool if pool in get_args(Pool) and pool != "gem" else None)


def timm_config(network: RetrievalNetwork, preprocessing: Preprocessing) -> dict[str, Any]:
    """The `config.json` from which `timm.create_model("local-dir:…")` builds and loads the backbone."""
    spec = network.spec
    backbone: Any = network.backbone
    arguments: dict[str, Any] = {"num_classes": 0, "global_pool": "" if spec.pool == "gem" else spec.pool}
    if spec.image_size is not None:
        arguments["img_size"] = spec.image_size
    return {
        "architecture": spec.architecture,
        "num_classes": 0,
        "num_features": int(backbone.num_features),
        "global_pool": arguments["global_pool"],
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, preprocessing.size, preprocessing.size],
            "fixed_input_size": spec.image_size is not None,
            "interpolation": preprocessing.filter,
            "crop_pct": preprocessing.crop_pct,
            "crop_mode": _CROP_MODE[preprocessing.resize],
            "mean": list(network.statistics.mean),
            "std": list(network.statistics.std),
            "num_classes": 0,
            "first_conv": backbone.pretrained_cfg.get("first_conv"),
            "classifier": backbone.pretrained_cfg.get("classifier"),
            "custom_load": False,
        },
    }


def _pretrained_config(name: str) -> Any:
    check_architecture(name.partition(".")[0])
    try:
        return timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise NetworkError(f"timm has no weights `{name}`: {error}") from error
