"""Around a page that a command serves: what has to be so before Gradio is imported, and a tidy end."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from draggan.ui.server.exposure import Exposure

__all__ = ["launch", "run_page"]


def run_page(program: str, serve: Callable[[Path], None], *, check: Callable[[], object] = lambda: None) -> int:
    """Serve a page until interrupted; returns the exit status.

    Nothing about it is told to anybody, a proxy of the environment does not stand before it, and all its temporary
    files lie in one folder, which goes with it when a signal ends it, and otherwise with the next start.

    Args:
        program: what messages begin with.
        serve: does it; gets that folder.
        check: refuses what cannot be served, before anything that takes long is imported.
    """
    from dnnlib import proxies
    from dnnlib.errors import ListenError
    from dnnlib.run_folder import RunFolder
    from draggan.errors import DragGANError

    _tell_nobody()
    folder, chosen, ended, handlers = None, os.environ.get("GRADIO_TEMP_DIR"), None, {}
    try:
        check()
        folder = RunFolder(Path(chosen).expanduser() if chosen else None)
        # Before Gradio is imported: it makes folders and connections then.
        os.environ["GRADIO_TEMP_DIR"] = str(folder.path / "gradio")
        tempfile.tempdir = str(folder.path)
        handlers = _end_tidily()
        with proxies.set_aside(all_of_them=False):
            import draggan.ui.app  # noqa: F401
        serve(folder.path)
    except (DragGANError, ListenError, OSError) as e:
        sys.stderr.write(f"{program}: {e}\n")
        return 1
    except _Ended as e:
        ended = e
        # One more would end the tidying.
        for number in handlers:
            signal.signal(number, signal.SIG_IGN)
        if e.code:
            sys.stderr.write(f"{program}: interrupted\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"{program}: interrupted\n")
        return _INTERRUPTED
    finally:
        if folder is not None:
            folder.remove()
        os.environ["GRADIO_TEMP_DIR"], tempfile.tempdir = chosen or "", None
        if ended is not None:
            # Not by way of Python's own end: it cuts off threads that compute, which PyTorch takes for a crash, and
            # sometimes waits for them for ever.
            _end_children()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(ended.code)
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return 0


def _end_children() -> None:
    """The compiler of a first start, and what holds a public link open: both would go on."""
    if (build := sys.modules.get("torch_utils.ops.build")) is not None:
        build.stop_children()
    if (tunneling := sys.modules.get("gradio.tunneling")) is not None:
        for tunnel in tunneling.CURRENT_TUNNELS:
            tunnel.kill()


def launch(demo: Any, exposure: Exposure, port: int, **options: Any) -> tuple[str, str | None]:
    """Have a page answer from now on.

    Args:
        demo: the page, a `gradio.Blocks`.
        options: of ``demo.launch``, with those of `draggan.ui.server.site.Site.launch_options`.

    Returns:
        Its address on this machine, and that of its public link; None: it has none.
    """
    from dnnlib import proxies

    # Gradio asks its own server whether it answers; only a public link goes out from here.
    with proxies.set_aside(all_of_them=not exposure.shared):
        _, local_url, share_url = demo.launch(
            server_name=exposure.host,
            server_port=port,
            share=exposure.shared,
            prevent_thread_lock=True,
            quiet=True,
            ssr_mode=False,  # no other server in front of this one
            **options,
        )
    return local_url, share_url


_INTERRUPTED = 130  # as of a shell: 128 and the number of the signal


class _Ended(SystemExit):
    """A signal has asked for the end."""

    code: int


def _tell_nobody() -> None:
    """Gradio would otherwise report its start over the network, if it is imported before this."""
    # Whatever the environment says: nothing about this page is anybody else's business.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # It would also make a table of its last ten thousand events with every other one, which nobody reads.
    os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
    os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", "1000000000")


def _end_tidily() -> dict[int, Any]:
    """Signals that end a process at once would leave its files behind; returns what they did before.

    Ctrl-C is one of them: once threads compute, Python's own end may not come (see `run_page`).
    """

    def end(number: int, frame: object) -> NoReturn:
        raise _Ended(_INTERRUPTED if number == signal.SIGINT else 0)

    if threading.current_thread() is not threading.main_thread():
        return {}
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # One that is ignored stays so: `nohup` outlives its terminal. What was set outside Python could not be set again.
    ours = [number for number in numbers if signal.getsignal(number) not in (signal.SIG_IGN, None)]
    return {number: signal.signal(number, end) for number in ours}
