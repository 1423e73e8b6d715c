"""The application in a process of its own, and a headless browser that shows it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["READY", "ROOT", "Visit", "chromium", "visit"]

ROOT = Path(__file__).resolve().parent.parent
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# The status line says this once the picture is there.
READY = "Click a point"


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A started application with its page open.

    Attributes:
        page: Playwright's page.
        process: of the application.
        answered, shown: seconds from its start until the page came, and until its picture was there.
    """

    page: Any
    process: subprocess.Popen[bytes]
    answered: float
    shown: float

    def worked(self) -> float:
        """Processor seconds of the application's process so far, where the system tells (Linux)."""
        try:
            after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return float("nan")
        return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")

    def resident(self) -> float:
        """Megabytes of the application's process, where the system tells (Linux)."""
        try:
            lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        except OSError:
            return float("nan")
        return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")), float("nan"))


@contextmanager
def chromium(path: str | None) -> Iterator[Any]:
    """A headless Chromium from that path."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visit(browser: Any, port: int, program: Sequence[str] = ("app.py",), *, tree: Path = ROOT) -> Iterator[Visit]:
    """Start ``python app.py`` and open it, from nothing to the first picture; it ends with the block.

    Args:
        tree: of the project, another one than this.
        program: what Python runs in its place. Its standard input is that of `Visit.process`.
    """
    from playwright.sync_api import Error

    begun = time.perf_counter()
    command = [sys.executable, *program, "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=tree, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    try:
        while True:
            try:
                page.goto(f"http://127.0.0.1:{port}", wait_until="commit")
                break
            except Error:
                if process.poll() is not None or time.perf_counter() - begun > 120:
                    raise
                time.sleep(0.05)
        answered = time.perf_counter() - begun
        page.get_by_text(READY).first.wait_for(timeout=120_000)
        yield Visit(page=page, process=process, answered=answered, shown=time.perf_counter() - begun)
    finally:
        page.close()
        process.terminate()
        process.wait(30)
