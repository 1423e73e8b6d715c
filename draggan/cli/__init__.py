"""The command line: what a page can do, without a page. Every command is a module of this package.

A command has ``NAME``, ``HELP``, ``add_options(parser)`` and ``run(args) -> int``. What takes long to import is
imported when it runs, and after its options have been found to be good: a mistake is told at once.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Sequence

from draggan.cli import (
    app,
    audit,
    audit_model,
    batch,
    convert,
    dataset,
    doctor,
    drag,
    edits,
    evaluate,
    invert,
    models,
    review,
    verify,
    video,
)
from draggan.cli.options import add_command, add_verbose
from draggan.errors import DragGANError
from draggan.program import own_command

__all__ = ["main"]

_COMMANDS = (
    app,
    drag,
    invert,
    video,
    batch,
    edits,
    dataset,
    verify,
    models,
    convert,
    evaluate,
    audit_model,
    audit,
    review,
    doctor,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 a message explains, 2 wrong usage, 130 interrupted."""
    # Before PyTorch is imported: threads that wait sleep, which is much faster on a busy machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        args = _parser().parse_args(drag.joined(sys.argv[1:] if argv is None else argv))
        _log(verbose=args.verbose)
        status = args.run(args)
        sys.stdout.flush()
        return status
    except DragGANError as e:
        print(f"draggan: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader of our output has seen enough (`draggan models | head`).
        _drop_output()
        return 0
    except OSError as e:
        print(f"draggan: {e}", file=sys.stderr)
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            return 1
        _drop_output()  # it is where there is no room for it
        return 1
    except KeyboardInterrupt:
        print("draggan: interrupted", file=sys.stderr)
        return 130


def _log(*, verbose: bool) -> None:
    """Log to the terminal; on demand everything that this program has to say, not what its libraries have."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    for name in ("draggan", "torch_utils", "dnnlib"):
        logging.getLogger(name).setLevel(logging.DEBUG if verbose else logging.NOTSET)


def _drop_output() -> None:
    """Leave nothing of the output for the exit to write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=own_command(),
        description="Drag points of a generated picture, in a page or without one.",
        epilog="Each command has a --help of its own.",
    )
    add_verbose(parser)
    commands = parser.add_subparsers(required=True, title="commands", metavar="COMMAND")
    for command in _COMMANDS:
        options = add_command(commands, command.NAME, command.HELP)
        command.add_options(options)
        options.set_defaults(run=command.run)
    return parser
