"""What several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_yes", "name_of", "path_of"]


def add_yes(parser: argparse.ArgumentParser) -> None:
    """The option of every command that may have to download a model first."""
    parser.add_argument("--yes", action="store_true", help="download the model without asking if it is not here")


def path_of(text: str) -> Path:
    """A path as people paste them: blanks and quotes around it do not belong to it, ``~`` is the home folder."""
    return Path(_unquoted(text)).expanduser()


def name_of(text: str) -> str:
    """The name, path or address of a model, likewise."""
    text = _unquoted(text)
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
