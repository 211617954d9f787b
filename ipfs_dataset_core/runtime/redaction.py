"""URLs as messages may show them: without user, password and query, where tokens are."""

from __future__ import annotations

import re

# In the URLs of IPFS itself nobody is named, and paths may have an @ or a question mark.
_URL = re.compile(
    r"(?P<scheme>\s*(?!ip[fn]s:)[a-z][a-z0-9+.-]*://)(?P<authority>[^/?#]*)(?P<rest>.*)",
    re.IGNORECASE | re.DOTALL,
)
_HOST = re.compile(r"(\[[^\]]*\]|[^:]+)(:\d*)?")


def redacted(url: str) -> str:
    """Returns a URL without what nobody else may see; other addresses are returned as they are."""
    match = _URL.fullmatch(url)
    if match is None:
        return url
    authority, rest = match["authority"].rpartition("@")[2], match["rest"]
    if not _HOST.fullmatch(authority) and "@" in rest:  # a password with a slash in it
        authority, rest = "", rest.rpartition("@")[2]
    return match["scheme"] + authority + re.split(r"[?#]", rest, maxsplit=1)[0]
