"""The page on small models in a process of its own, that can be killed: ``python -m tests.browser.serving PORT``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from draggan.ui.app import build, launch_options
from draggan.ui.server.site import Site
from tests.pages import TinyModels, spare_port

__all__ = ["Server"]


class Server:
    """That process, on one port."""

    def __init__(self) -> None:
        self.port = spare_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> float:
        """Start it; returns when it answered."""
        command = [sys.executable, "-m", "tests.browser.serving", str(self.port)]
        self._process = subprocess.Popen(
            command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 60
        while True:
            try:
                with urlopen(self.url, timeout=5):
                    return time.monotonic()
            except (URLError, OSError):
                assert time.monotonic() < deadline
                assert self._process.poll() is None
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait(30)


def main(port: int) -> None:
    """Serve until killed."""
    site = Site()
    demo = build(TinyModels(), drags=3, local=True, site=site)
    options = launch_options(site)
    demo.launch(quiet=True, server_name="127.0.0.1", server_port=port, ssr_mode=False, **options)


if __name__ == "__main__":
    main(int(sys.argv[1]))
