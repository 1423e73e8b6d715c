"""``draggan doctor``: what runs here, what is slow, and what to do about it."""

from __future__ import annotations

import argparse
import dataclasses
import json

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "doctor"
HELP = "what runs here, what is slow, and what to do about it"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def run(args: argparse.Namespace) -> int:
    """Print the report; returns 1 if something is broken."""
    from draggan import doctor

    items = doctor.report()
    if args.json:
        print(json.dumps([dataclasses.asdict(item) for item in items]))
    else:
        for item in items:
            print(f"[{item.status:6}] {item.name}: {item.value}")
            if item.advice:
                print(f"         {item.advice}")
    return 1 if any(item.status == "broken" for item in items) else 0
