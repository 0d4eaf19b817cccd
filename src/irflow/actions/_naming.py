"""Files as responders name them, and as the scripts on hosts take them."""

from __future__ import annotations

import base64
import re

_BYTES = "base64url:"
_MOST_BYTES = 4095
"""PATH_MAX of Linux, less the closing zero (linux/limits.h)."""
_HASH = re.compile(r"[0-9a-f]{64}")


def path_bytes(text: str) -> bytes:
    """The bytes of an absolute path: its UTF-8, or what follows `base64url:`. Raises ValueError if it is none."""
    if text.startswith(_BYTES):
        coded = text.removeprefix(_BYTES)
        try:
            raw = base64.b64decode(coded + "=" * (-len(coded) % 4), altchars=b"-_", validate=True)
        except ValueError:
            raise ValueError(f"not base64url: {text[:60]!r}") from None
    else:
        raw = text.encode()
    if not raw.startswith(b"/") or b"\0" in raw or len(raw) > _MOST_BYTES:
        raise ValueError(f"not an absolute path: {text[:100]!r}")
    return raw


def encoded(name: bytes) -> str:
    """A name as base64url, which every byte survives on the way through a shell's arguments."""
    return base64.urlsafe_b64encode(name).decode()


def path_argument(text: str) -> str:
    """An absolute path as the scripts take it. Raises ValueError."""
    return encoded(path_bytes(text))


def sha256_argument(text: str) -> str:
    """A SHA-256 in lower case; `sha256:` before it is left off. Raises ValueError."""
    found = text.lower().removeprefix("sha256:")
    if not _HASH.fullmatch(found):
        raise ValueError(f"not a SHA-256 in hex: {text[:80]!r}")
    return found
