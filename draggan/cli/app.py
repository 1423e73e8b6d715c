"""``draggan app``, and ``python app.py``: the page."""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Sequence

from draggan.cli.options import name_of

__all__ = ["HELP", "NAME", "add_options", "main", "run"]

NAME = "app"
HELP = "serve the page, and say at which address"
_DESCRIPTION = "Drag points of a generated picture in a page of your browser."


def add_options(parser: argparse.ArgumentParser) -> None:
    """Its options."""
    parser.add_argument(
        "--model", type=name_of, default="cat", help="name or file of the model to start with (default: %(default)s)"
    )
    parser.add_argument("--yes", action="store_true", help="download that model without asking if it is not here")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps (default: %(default)s)")
    address = parser.add_mutually_exclusive_group()
    address.add_argument("--host", default=None, help="address to listen on (default: 127.0.0.1, this machine only)")
    address.add_argument("--listen", action="store_true", help="listen on all addresses: others can reach the page")
    parser.add_argument("--port", type=int, default=None, help="port (default: the first free one from 7860 on)")
    parser.add_argument("--root-path", default=None, help="path under which a proxy serves the page, such as /draggan")
    parser.add_argument("--share", action="store_true", help="also make a public link through Gradio's servers")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")
    parser.add_argument("--verbose", action="store_true", help="log what happens")


def main(argv: Sequence[str] | None = None) -> int:
    """``python app.py``: serve the page until interrupted; returns the exit status."""
    parser = argparse.ArgumentParser(prog="app.py", description=_DESCRIPTION)
    add_options(parser)
    return run(parser.parse_args(argv), "app.py")


def run(args: argparse.Namespace, program: str = "draggan app") -> int:
    """Serve the page until interrupted.

    Args:
        program: what messages begin with.
    """
    logging.basicConfig(level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s")
    # Before Gradio is imported: it would otherwise report its start over the network.
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "0")
    # Before PyTorch is imported: waiting threads sleep instead of spinning. Beside anything else that is busy, such as
    # the browser, a step is several times faster; alone, the same within a tenth.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from draggan.config import Limits
    from draggan.engine.local import LocalEngine
    from draggan.engine.models import CatalogueModels
    from draggan.errors import DragGANError
    from draggan.terminal import ensure_downloaded
    from draggan.ui import build, launch_options, warm_up
    from torch_utils.ops import library

    try:
        ensure_downloaded(args.model, yes=args.yes)
        models = CatalogueModels(args.device, args.model)
        local = _is_local(args)
        engine = LocalEngine(models, Limits() if local else Limits.public())
        demo = build(models, engine, local=local)
        _, local_url, share_url = demo.launch(
            server_name="0.0.0.0" if args.listen else args.host,
            server_port=args.port,
            share=args.share,
            root_path=args.root_path,
            inbrowser=args.open,
            prevent_thread_lock=True,
            quiet=True,
            **launch_options(),
        )
    except DragGANError as e:
        sys.stderr.write(f"{program}: {e}\n")
        return 1
    except OSError as e:
        sys.stderr.write(f"{program}: {_port_taken(args) if 'port' in str(e) else e}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return 130
    sys.stdout.write(f"The page is at {local_url} (Ctrl+C ends it).\n")
    if share_url:
        # Gradio has shown the link.
        sys.stdout.write("Anyone with the public link can use the page.\n")
    sys.stdout.flush()
    # Compiled versions of some operators, ready a while after the very first start; nothing waits for them.
    library.build_in_background()
    threading.Thread(target=warm_up, args=(engine, models), name="warm-up", daemon=True).start()
    demo.block_thread()
    return 0


def _port_taken(args: argparse.Namespace) -> str:
    """What to do where the page cannot have its port."""
    port = args.port or os.environ.get("GRADIO_SERVER_PORT")
    if port:
        return f"port {port} is in use; choose another one with --port, or leave it out to take the first free one"
    return "no port from 7860 on is free; choose one with --port"


def _is_local(args: argparse.Namespace) -> bool:
    """Whether only this machine can reach the page: no link, no proxy, no address that others can use."""
    host = "0.0.0.0" if args.listen else args.host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1")
    return host in ("127.0.0.1", "localhost", "::1") and not args.share and not args.root_path
