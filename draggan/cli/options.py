"""What several commands share.

A mistake in the options is told at once, before anything that takes long is imported. What reads an option may raise a
`DragGANError` for that: it is a sentence, where argparse would print all options before it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from draggan.config import check_device
from draggan.errors import ConfigError

__all__ = ["add_device", "add_yes", "file_of", "name_of", "path_of"]


def add_device(parser: argparse.ArgumentParser) -> None:
    """The option of every command that computes."""
    parser.add_argument(
        "--device",
        type=check_device,
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)",
    )


def add_yes(parser: argparse.ArgumentParser) -> None:
    """The option of every command that may have to download a model first."""
    parser.add_argument("--yes", action="store_true", help="download the model without asking if it is not here")


def path_of(text: str) -> Path:
    """A path as people paste them: blanks and quotes around it do not belong to it, ``~`` is the home folder."""
    return Path(_unquoted(text)).expanduser()


def file_of(text: str) -> Path:
    """The path of something that is there.

    Raises:
        ConfigError: it is not.
    """
    path = path_of(text)
    if not path.exists():
        raise ConfigError(f"there is no file {path}; check the name")
    return path


def name_of(text: str) -> str:
    """The name, path or address of a model, likewise."""
    text = _unquoted(text)
    return str(Path(text).expanduser()) if text.startswith("~") else text


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text
