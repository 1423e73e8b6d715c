"""``draggan evaluate``: how well dragging works, or how well a model draws."""

from __future__ import annotations

import argparse

from draggan.evaluation import command

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "evaluate"
HELP = "measure how well dragging works, or how well a model draws"

add_options = command.add_options


def run(args: argparse.Namespace) -> int:
    """Run it, and print what it finds."""
    return command.run(args, print)
