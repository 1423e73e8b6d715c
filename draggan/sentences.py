"""Messages of errors as people read them, wherever they are told: on the page, or to a program by the service."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import gettempdir

__all__ = ["presentable", "sentence"]

_LONGEST = 600  # letters of a message
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_PROGRAM = Path(__file__).resolve().parents[1]


def sentence(message: str) -> str:
    """An error's message as a sentence of its own; names that begin it stay as they are."""
    if re.match(r"[a-z]+\b(?![\w.:/\\=-])", message):
        message = message[0].upper() + message[1:]
    return message if message.endswith((".", "!", "?")) else message + "."


def presentable(text: str, *folders: str) -> str:
    """A message without what is nobody's business or of no use: where things lie on this machine, and megabytes.

    Args:
        folders: of this machine that it may name, beside those of the program, its user and its temporary files.
    """
    own = {*folders, gettempdir(), str(Path.home()), str(_PROGRAM), os.environ.get("DRAGGAN_HOME", "").rstrip(os.sep)}
    # The longest first: one may lie in another.
    for folder in sorted((folder for folder in own if len(folder) > 1), key=len, reverse=True):
        text = text.replace(f"{folder}{os.sep}", "")
    text = _ADDRESS.sub("", text)
    if len(text) > _LONGEST:
        # What is wrong stands at the beginning or at the end.
        text = f"{text[: _LONGEST * 2 // 3]} … {text[-_LONGEST // 3 :]}"
    return text
