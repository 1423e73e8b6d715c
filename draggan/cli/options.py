"""What several commands share.

A mistake in the options is told at once, before anything that takes long is imported. What reads an option may raise a
`DragGANError` for that: it is a sentence, where argparse would print all options before it.

A command with more than a dozen options has them in groups, by what a person wants to say with them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.config import check_device, choices, describe
from draggan.errors import ConfigError
from draggan.program import own_command
from draggan.sentences import sentence

if TYPE_CHECKING:
    from argparse import _ActionsContainer as Options
    from argparse import _SubParsersAction as Commands

__all__ = [
    "add_class",
    "add_command",
    "add_device",
    "add_json",
    "add_machine",
    "add_setting",
    "add_verbose",
    "add_yes",
    "file_of",
    "name_of",
    "path_of",
    "which_model",
]


def add_command(commands: Commands[argparse.ArgumentParser], name: str, meaning: str) -> argparse.ArgumentParser:
    """One of several commands, which its own help explains in the words of the list."""
    parser = commands.add_parser(name, help=meaning, description=sentence(meaning))
    # What stood before the command stays.
    add_verbose(parser, default=argparse.SUPPRESS)
    return parser


def add_verbose(options: Options, *, default: str | bool = False) -> None:
    """The option of everything that can be started."""
    options.add_argument("--verbose", action="store_true", default=default, help="log what happens")


def add_machine(parser: argparse.ArgumentParser) -> None:
    """The options of every command that computes, and may have to download a model first."""
    machine = parser.add_argument_group("this machine")
    add_device(machine)
    add_yes(machine)


def add_device(options: Options) -> None:
    """The option of every command that computes."""
    options.add_argument(
        "--device",
        type=check_device,
        default="auto",
        help="where to compute: auto, cpu, cuda, cuda:N or mps (default: %(default)s)",
    )


def add_yes(options: Options) -> None:
    """The option of every command that may have to download a model first."""
    options.add_argument("--yes", action="store_true", help="download the model without asking if it is not here")


def add_class(options: Options) -> None:
    """The option that says which of its classes a model draws."""
    options.add_argument(
        "--class", type=int, default=None, dest="label", metavar="N", help="which class, of models that have classes"
    )


def add_json(options: Options) -> None:
    """The option for programs."""
    options.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def add_setting(options: Options, config: type, name: str, *, default: str = "") -> None:
    """The option of a field of a dataclass of settings, which knows what there is to say of it.

    Args:
        default: how people are told of it, where it is not the field's.
    """
    facts = describe(config, name)
    unit, value = facts["unit"], facts["default"]
    words = choices(config).get(name)
    if words is not None:
        metavar = f"{{{','.join(words)}}}"
    elif value is None:
        metavar = name.upper()
    else:
        metavar = "PX" if unit.startswith("px") else "N" if isinstance(value, int) else "NUMBER"
    only = f"{facts['only']}: " if facts.get("only") else ""
    options.add_argument(
        "--" + name.replace("_", "-"),
        type=str if value is None else type(value),
        metavar=metavar,
        help=f"{only}{facts['help']}{f' [{unit}]' if unit else ''} (default: {default or value})",
    )


def which_model() -> str:
    """How a model can be named."""
    return f"a name that `{own_command()} models` lists, a file or an https address"


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
