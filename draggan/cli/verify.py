"""``draggan verify``: what marks files carry, and what they are worth."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from draggan.cli.options import path_of
from draggan.errors import DragGANError

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "verify"
HELP = "say which marks files carry: credentials, words, the invisible mark, a recipe"
_STATUS = {"from here": 0, "says so": 0, "nothing": 3, "changed": 4}
_SIGNS = {"good": "+", "note": "?", "bad": "!", "": "-"}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.description = (
        "Say which marks files carry, of this program or of others. Nothing is fetched, whatever a file names. "
        "Exit status: 0 a mark says that the file is made by AI; 1 a file cannot be read; 3 no mark says so; "
        "4 signed, and changed since. Of several files, the highest counts."
    )
    parser.add_argument("files", type=path_of, nargs="+", metavar="FILE", help="PNG, JPEG, WebP, GIF, MP4 and others")
    parser.add_argument("--json", action="store_true", help="print one JSON object a file, each on a line")


def run(args: argparse.Namespace) -> int:
    """Look at every file; one that cannot be read does not keep the others from it."""
    from draggan.provenance.deployment import Deployment
    from draggan.provenance.verify import verify_file

    ours = Deployment.of()
    record = None if ours.audit is None else ours.recorded
    worst = 0
    for number, path in enumerate(args.files):
        report: dict[str, Any]
        try:
            found = verify_file(path, folder=ours.folder, record=record)
        except DragGANError as error:
            worst = max(worst, 1)
            if args.json:
                print(json.dumps({"file": str(path), "error": str(error)}))
            else:
                which = "" if path.name in str(error) else f"{path.name}: "
                print(f"draggan: {which}{error}", file=sys.stderr)
            continue
        worst = max(worst, _STATUS[found.outcome])
        if args.json:
            report = {"file": str(path)} | found.to_dict()
            print(json.dumps(report))
            continue
        print(f"{chr(10) * (number > 0)}{path.name}")
        for finding in found.findings():
            print(f"  {_SIGNS[finding.mood]} {finding.layer}: {finding.text}")
    return worst
