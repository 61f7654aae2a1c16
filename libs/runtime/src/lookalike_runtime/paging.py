"""Pages after AIP-158: a token holds the last key seen, so that a page neither repeats nor skips while others write."""

from __future__ import annotations

import base64
import binascii

from lookalike_runtime.errors import InvalidArgument, invalid_field

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1_000


def page_size(requested: int) -> int:
    """Return the size to use for a requested one, 0 meaning the default; raises InvalidArgument outside 0 to 1,000."""
    if not 0 <= requested <= MAX_PAGE_SIZE:
        raise invalid_field("page_size", f"{requested} is out of range: 1 to {MAX_PAGE_SIZE}, or 0 for {DEFAULT_PAGE_SIZE}")
    return requested or DEFAULT_PAGE_SIZE


def encode_token(key: str) -> str:
    """Return the token of a page that ended with `key`."""
    return base64.urlsafe_b64encode(b"k1:" + key.encode()).decode()


def decode_token(token: str) -> str | None:
    """Return the key that a token holds, None for the first page; raises InvalidArgument for what is no token."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        if raw.startswith(b"k1:"):
            return raw[3:].decode()
    except (binascii.Error, UnicodeError):
        pass
    raise InvalidArgument("INVALID_FIELD", f"page_token {token[:80]!r} is no token of this server: start from the first page")
