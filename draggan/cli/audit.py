"""``draggan audit``: the record of what has left this installation."""

from __future__ import annotations

import argparse
import json
import time

from draggan.cli.options import add_command

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "audit"
HELP = "look at the record of exports: is it whole, what is its head; erase details"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    what = parser.add_subparsers(required=True, title="commands", metavar="COMMAND", dest="what")
    verify = add_command(what, "verify", "look at the whole chain; the exit status is 1 if something is wrong")
    verify.add_argument(
        "--head",
        action="append",
        default=[],
        metavar="NUMBER:HASH",
        help="a head that it had before; may be given more than once",
    )
    add_command(what, "head", "print number and hash of the last row, to be remembered elsewhere")
    show = add_command(what, "show", "print the last rows")
    show.add_argument("--last", type=int, default=20, metavar="N", help="how many (default: %(default)s)")
    show.add_argument("--json", action="store_true", help="print one JSON object for each instead of text")
    purge = add_command(what, "purge", "erase details whose time is over; the chain stays valid")
    purge.add_argument("--all", action="store_true", help="erase all details now")


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from draggan.errors import AuditError
    from draggan.provenance.audit import Head
    from draggan.provenance.deployment import default

    log = default().audit
    if log is None:
        raise AuditError("no record is kept here: DRAGGAN_AUDIT is off")
    if args.what == "head":
        head = log.head()
        print("nothing has been recorded yet" if head is None else head)
    elif args.what == "show":
        for row in log.rows(last=max(args.last, 0)):
            if args.json:
                facts = {"number": row.number, "minute": row.minute, "event": row.event, "facts": dict(row.facts)}
                print(json.dumps(facts | {"details": row.details}))
                continue
            when = time.strftime("%Y-%m-%d %H:%M", time.gmtime(row.minute))
            facts_text = ", ".join(f"{name} {_short(value)}" for name, value in row.facts.items() if value)
            print(f"{row.number:6}  {when}  {row.event:9} {facts_text}")
    elif args.what == "purge":
        erased = log.purge(everything=args.all)
        print(f"details of {erased} row{'' if erased == 1 else 's'} erased; the chain is as valid as before")
    else:
        found = log.verify([Head.read(text) for text in args.head])
        for problem in found.problems:
            print(problem)
        whole = "whole" if found.is_valid else "NOT whole"
        print(f"{log.path}: {found.rows} rows, {found.erased} with erased details; {whole}")
        if found.head is not None:
            print(f"head: {found.head}")
        return 0 if found.is_valid else 1
    return 0


def _short(value: object) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) > 24 and " " not in text else text
