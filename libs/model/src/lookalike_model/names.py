"""Names of models, aliases and bundles: what may become part of a path or an address."""

import re

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def check_name(name: str, what: str = "name") -> str:
    """The name itself, if it is 1 to 63 of a–z, 0–9, `.`, `_`, `-` and starts with a letter or digit.

    Raises:
        ValueError: anything else; such a name could leave its folder.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{what} {name!r} is not allowed: use 1 to 63 of a-z, 0-9, `.`, `_`, `-`, the first a letter or a digit")
    return name
