"""``draggan review``: pictures that wait until a person has looked at them."""

from __future__ import annotations

import argparse
import json
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli.options import add_command
from draggan.cli.serving import launch, run_page
from draggan.program import own_command

if TYPE_CHECKING:
    from draggan.provenance.deployment import Deployment

__all__ = ["HELP", "NAME", "add_options", "run"]

NAME = "review"
_FIRST_PORT = 7870
HELP = "decide about pictures that the moderation was not sure of"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    what = parser.add_subparsers(required=True, title="commands", metavar="COMMAND", dest="what")
    listed = add_command(what, "list", "what waits, the longest first, and where the pictures lie")
    listed.add_argument("--json", action="store_true", help="print one JSON object for each instead of text")
    for name, meaning in (
        ("approve", "let one pass, now and every time"),
        ("refuse", "refuse one, now and every time"),
    ):
        decide = add_command(what, name, meaning)
        decide.add_argument(
            "number", metavar="NUMBER", help=f"of the picture, as `{own_command()} review list` prints it"
        )
        decide.add_argument(
            "--why", default="", metavar="TEXT", help="in your own words; recorded, and erased with the other details"
        )
    serve = add_command(what, "serve", "a page to decide in, for this machine's own user only")
    serve.add_argument(
        "--port", type=int, default=None, metavar="N", help="port (default: the first free one from 7870 on)"
    )


def run(args: argparse.Namespace) -> int:
    """Do it."""
    from draggan.provenance.deployment import default

    ours = default()
    if args.what == "serve":
        serve = partial(_serve, ours, args.port)
        return run_page("draggan review", serve, check=lambda: _port(args.port))
    queue = ours.queue
    if args.what in ("approve", "refuse"):
        queue.decide(args.number, allow=args.what == "approve", why=args.why)
        print(f"{args.number}: {'approved' if args.what == 'approve' else 'refused'}; its picture has left the disk")
        return 0
    waiting = queue.waiting()
    for one in waiting:
        if args.json:
            facts = {"number": one.item, "since": one.since, "stage": one.stage, "code": one.code}
            print(json.dumps(facts | {"moderator": one.moderator, "score": one.score, "picture": str(one.picture)}))
            continue
        since = time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.since))
        score = "" if one.score is None else f", score {one.score:.2f}"
        print(f"{one.item}  {since}  {one.stage:6}  {one.code} ({one.moderator}{score})  {one.picture}")
    if not waiting and not args.json:
        print("nothing waits")
    return 0


def _port(port: int | None) -> int:
    """The port to listen on."""
    from dnnlib.listening import free_port
    from draggan.ui.server.exposure import Exposure

    return free_port(Exposure().host, port, first=_FIRST_PORT)


def _serve(ours: Deployment, port: int | None, folder: Path) -> None:
    from draggan.ui.review_page import build_review
    from draggan.ui.server.exposure import Exposure
    from draggan.ui.server.site import Site

    exposure = Exposure()
    site = Site(exposure, folder=folder, deployment=ours)
    demo = build_review(ours.queue)
    url, _ = launch(demo, exposure, _port(port), **site.launch_options())
    print(f"What waits is at {url} (Ctrl+C ends it).", flush=True)
    demo.block_thread()
