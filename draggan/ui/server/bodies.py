"""What a request brings, read before Gradio reads it: JSON of some depth, and the files that it names."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["check_number", "files_in", "is_address", "read"]

_DEEPEST = 64  # lists in lists
# Values of one request. Reading a million lists keeps everybody waiting for a second, and 8 MB have room for three.
_MOST = 200_000
_ESCAPED, _TEXT = re.compile(rb"\\.", re.DOTALL), re.compile(rb'"[^"]*"')
_SCHEMES = ("http", "https", "ftp", "ftps", "file", "data", "s3", "hf")


def read(body: bytes) -> Any:
    """The values in a body.

    Raises:
        ValueError: it is not JSON, or has too many lists in lists; the message is a sentence.
    """
    try:
        values = json.loads(body) if body else {}
    except (ValueError, RecursionError):
        raise ValueError("This request is not JSON.") from None
    level, depth = [values], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"This request has more than {_DEEPEST} lists in lists.")
        level = [inner for value in level for inner in _inside(value) if isinstance(inner, (dict, list))]
    return values


def check_number(body: bytes | bytearray) -> None:
    """Whether a body has few enough values to be read, told without reading it.

    Raises:
        ValueError: it has too many; the message is a sentence.
    """
    # What stands in a text is no value of its own. Most bodies have few signs of any kind.
    if _signs(body) > _MOST and _signs(_TEXT.sub(b"", _ESCAPED.sub(b"", body))) > _MOST:
        raise ValueError(f"This request has more than {_MOST} values.")


def _signs(body: bytes | bytearray) -> int:
    return sum(body.count(sign) for sign in (b",", b"[", b"{"))


def files_in(values: Any) -> list[str]:
    """Paths and addresses of everything that Gradio may take for a file."""
    found: list[str] = []
    left = [values]
    while left:
        value = left.pop()
        if isinstance(value, dict) and "path" in value and ("meta" in value or "orig_name" in value):
            path, url = value["path"], value.get("url")
            found.append(path if isinstance(path, str) else "")
            # The page sends back the address that it was given for the same path, with blanks and signs escaped.
            if isinstance(url, str) and isinstance(path, str) and path not in url and path not in unquote(url):
                found.append(url)
        left.extend(_inside(value))
    return found


def is_address(text: str) -> bool:
    """Whether a text is an address on some network rather than a path."""
    try:
        return urlsplit(text.strip()).scheme.lower() in _SCHEMES or text.strip().startswith(
            ("//", "\\\\", "/\\", "\\/")
        )
    except ValueError:
        return True


def _inside(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
