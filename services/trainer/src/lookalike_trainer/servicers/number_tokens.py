"""Page tokens of lists that are ordered by a number."""

from lookalike_runtime.errors import invalid_field
from lookalike_runtime.paging import decode_token


def decode_number(token: str) -> int | None:
    """The number that a token holds, None for the first page; raises InvalidArgument for what is no such token."""
    key = decode_token(token)
    if key is None:
        return None
    if not (key.isascii() and key.isdigit() and len(key) < 19):
        raise invalid_field("page_token", f"{token[:80]!r} is no token of this list: start from the first page")
    return int(key)
