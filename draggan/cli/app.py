"""``draggan app``, and ``python app.py``: the page."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from draggan.cli.options import add_device, add_verbose, add_yes, name_of, which_model
from draggan.cli.serving import launch, run_page
from draggan.config import Cluster
from draggan.errors import ConfigError, DragGANError

if TYPE_CHECKING:
    from draggan.cli.options import Options
    from draggan.config import Limits
    from draggan.engine.models import CatalogueModels
    from draggan.engine.turns import TurnsEngine
    from draggan.ui.server.exposure import Exposure

__all__ = ["HELP", "NAME", "add_options", "exposure_of", "main", "run"]

NAME = "app"
HELP = "serve the page, and say at which address"
_DESCRIPTION = "Drag points of a generated picture in a page of your browser."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    page = parser.add_argument_group("the page")
    page.add_argument(
        "--model",
        type=name_of,
        default="cat",
        metavar="MODEL",
        help=f"the one to start with: {which_model()} (default: %(default)s)",
    )
    add_yes(page)
    page.add_argument("--open", action="store_true", help="open the page in the browser")
    _add_reach(parser.add_argument_group("who can reach it"))
    _add_computing(parser.add_argument_group("where it is computed"))


def _add_reach(reach: Options) -> None:
    """Where it listens, by which names, and to whom."""
    address = reach.add_mutually_exclusive_group()
    address.add_argument(
        "--host", default=None, metavar="ADDRESS", help="address to listen on (default: 127.0.0.1, this machine only)"
    )
    address.add_argument("--listen", action="store_true", help="listen on all addresses: others can reach the page")
    reach.add_argument(
        "--port", type=int, default=None, metavar="N", help="port (default: the first free one from 7860 on)"
    )
    reach.add_argument("--share", action="store_true", help="also make a public link through Gradio's servers")
    reach.add_argument(
        "--root-path",
        default=None,
        metavar="PATH",
        help="path under which a proxy serves the page, such as /draggan, or whole address",
    )
    reach.add_argument(
        "--name",
        action="append",
        default=[],
        metavar="NAME",
        help="another name that the page is asked for by, such as draw.lan; may be given more than once",
    )
    reach.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="web pages of this origin, such as https://example.org, may use /v1 (see docs/service.md); may be given "
        "more than once",
    )
    reach.add_argument(
        "--mcp", action="store_true", help="also offer tools to language models at /mcp; needs the package mcp"
    )


def _add_computing(computing: Options) -> None:
    """The device, or the machines of a cluster."""
    add_device(computing)
    computing.add_argument(
        "--engine",
        default="local",
        metavar="ENGINE",
        help="local: this process computes; ray or ray:ADDRESS: replicas on a Ray cluster do, see docs/scale.md "
        "(default: %(default)s)",
    )
    computing.add_argument(
        "--replicas",
        default="1",
        metavar="LEAST[-MOST]",
        help="with --engine ray: how many compute, more while many requests wait (default: %(default)s)",
    )
    computing.add_argument(
        "--replica-cpus",
        type=float,
        default=1.0,
        metavar="NUMBER",
        help="with --engine ray: cores of a replica (default: %(default)s)",
    )
    computing.add_argument(
        "--replica-gpus",
        type=float,
        default=0.0,
        metavar="NUMBER",
        help="with --engine ray: GPUs of a replica, or a share of one (default: %(default)s)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    """``python app.py``: serve the page until interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(prog="app.py", description=_DESCRIPTION)
    add_verbose(parser)
    add_options(parser)
    try:
        args = parser.parse_args(argv)
    except DragGANError as e:
        sys.stderr.write(f"app.py: {e}\n")
        return 1
    return run(args, "app.py")


def run(args: argparse.Namespace, program: str = "draggan app") -> int:
    """Serve the page until interrupted.

    Args:
        program: what messages begin with.
    """
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    # Before PyTorch is imported: waiting threads sleep instead of spinning. Beside anything else that is busy, such as
    # the browser, a step is several times faster; alone, the same within a tenth.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return run_page(program, lambda folder: _serve(args, folder), check=lambda: _check(args))


def _check(args: argparse.Namespace) -> None:
    """Refuse what cannot be served."""
    from dnnlib.listening import free_port
    from draggan.terminal import ensure_downloaded

    free_port(exposure_of(args).host, _port(args))
    _cluster_of(args)
    ensure_downloaded(args.model, yes=args.yes)


def _serve(args: argparse.Namespace, folder: Path) -> None:
    from dnnlib.listening import free_port
    from draggan.engine.models import CatalogueModels
    from draggan.engine.zero import ZeroEngine, lent_gpu
    from draggan.ui.app import build, launch_options
    from draggan.ui.server.site import Site
    from draggan.ui.warmup import warm_up
    from torch_utils.ops import library

    exposure = exposure_of(args)
    if os.environ.get("SPACE_ID"):
        # All visitors come through a Space's own proxies, which say whom they bring.
        os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")
    # Where GPUs are lent, this process has none.
    lent = lent_gpu()
    models = CatalogueModels("cpu" if lent else args.device, args.model, downloads=not exposure.public)
    site = Site(exposure, folder=folder, unused=models.unused, tools=args.mcp)
    site.deployment.record_start()
    engine = ZeroEngine(models, lent, site.limits) if lent else _engine_of(args, models, site.limits)
    demo = build(models, engine, local=not exposure.public, site=site)
    options = launch_options(site)
    # As late as can be: another page may have begun to listen since this one was checked.
    port = free_port(exposure.host, _port(args))
    _tell(*launch(demo, exposure, port, root_path=args.root_path, inbrowser=args.open, **options))
    # Compiled versions of some operators, ready a while after the very first start; nothing waits for them.
    library.build_in_background()

    def prepare() -> None:
        warm_up(engine, models)
        site.warm.set()

    threading.Thread(target=prepare, name="warm-up", daemon=True).start()
    demo.block_thread()


def exposure_of(args: argparse.Namespace) -> Exposure:
    """Who can reach a page with these options, and by which names."""
    from draggan.ui.server.exposure import Exposure

    return Exposure.of(
        host=args.host,
        listen=args.listen,
        share=args.share,
        root_path=args.root_path,
        names=args.name,
        origins=args.origin,
    )


def _engine_of(args: argparse.Namespace, models: CatalogueModels, limits: Limits) -> TurnsEngine:
    """The engine of these options."""
    from draggan.engine.local import LocalEngine
    from draggan.engine.ray import RayEngine

    cluster = _cluster_of(args)
    return LocalEngine(models, limits) if cluster is None else RayEngine(models, cluster, limits)


def _cluster_of(args: argparse.Namespace) -> Cluster | None:
    """The cluster of these options; None: this process computes."""
    kind, _, address = args.engine.partition(":")
    if kind == "local" and not address:
        return None
    if kind != "ray":
        raise ConfigError(f"--engine {args.engine} is not allowed; give local, ray or ray:ADDRESS")
    least, _, most = args.replicas.partition("-")
    if not (least.isdecimal() and (most or least).isdecimal()):
        raise ConfigError(f"--replicas {args.replicas} is not allowed; give a number, or LEAST-MOST")
    return Cluster(
        address=address,
        least=int(least),
        most=int(most or least),
        cpus=args.replica_cpus,
        gpus=args.replica_gpus,
    )


def _tell(local_url: str, share_url: str | None) -> None:
    sys.stdout.write(f"The page is at {local_url} (Ctrl+C ends it).\n")
    if share_url:
        # Gradio has shown the link.
        sys.stdout.write(
            "Anyone with the public link can use the page, and you are the one who offers it: RESPONSIBLE_USE.md says "
            "what is asked of you then.\n"
        )
    sys.stdout.flush()


def _port(args: argparse.Namespace) -> int | None:
    chosen = os.environ.get("GRADIO_SERVER_PORT", "").strip()
    return int(chosen) if args.port is None and chosen.isdecimal() else args.port
