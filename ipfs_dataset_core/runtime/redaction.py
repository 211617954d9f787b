"""URLs for messages: without user, password and query, which may be secrets."""

from __future__ import annotations

import re

# The URLs of IPFS itself have no user, and their paths may have an @ or a question mark.
_URL = re.compile(
    r"(?P<scheme>\s*(?!ip[fn]s:)[a-z][a-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"(\[[^\]]*\]|[^:]+)(:\d*)?")


def redacted(url: str) -> str:
    """Returns a URL without user, password and query; any other address is returned as it is."""
    match = _URL.fullmatch(url)
    if match is None:
        return url
    authority, rest = match["authority"].rpartition("@")[2], match["rest"]
    if not _HOST.fullmatch(authority) and "@" in rest:  # a password with a slash in it
        authority, rest = "", rest.rpartition("@")[2]
    return match["scheme"] + authority + re.split(r"[?#]", rest, maxsplit=1)[0]
