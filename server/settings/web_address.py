"""Web addresses: whether a text is the address of an HTTP server, without anything secret in it. Asks no server.

Its messages never quote the text: what is no address may still hold a password.
"""

from urllib.parse import urlsplit

_ASIDES = "@?#"
"""What passwords, queries and fragments need. Looked for everywhere: `http://me:p/w@gpu` has its `@` in the path."""


def web_address(text: str, *, expected: str, secrets: str) -> str:
    """Without a final slash. Raises ValueError, saying what was expected, and where secrets belong."""
    text = text.strip()
    if any(sign in text for sign in _ASIDES):
        raise ValueError(f"an address must not hold a password, nor any of {' '.join(_ASIDES)}; {secrets}")
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # Brackets that do not match, or a port that is none. Some of these messages quote.
        raise ValueError(f"expected {expected}") from None
    if not is_address:
        raise ValueError(f"expected {expected}")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"
