"""From the command to the first picture: ``python app.py`` in a process of its own, watched by a headless browser."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
# The status line says this once the picture is there.
_READY = "Click a point"


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks start", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one start")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument("--port", type=int, default=7999)
    parser.add_argument("--browser", default=shutil.which("chromium"), help="path of Chromium (default: %(default)s)")
    args = parser.parse_args(argv)
    from playwright.sync_api import sync_playwright

    here = machine.describe()
    rows = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.browser, args=_FLAGS)
        for _ in range(1 if args.quick else 5):
            rows.append(_start(browser, args.port))
        browser.close()
    lines = [
        "# From the command to the first picture",
        "",
        "`python -m benchmarks start`: `python app.py` with the built-in model, everything installed, files in the",
        "system's cache. Seconds from starting the process; memory is the resident size of the process at that moment.",
        "",
        f"{here.markdown()}.",
        "",
        "| start | page answers s | picture is shown s | memory MB |",
        "|---|---|---|---|",
        *(f"| {i} | {page:.1f} | {picture:.1f} | {memory:.0f} |" for i, (page, picture, memory) in enumerate(rows, 1)),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
    return 0


def _start(browser, port: int) -> tuple[float, float, float]:
    """Seconds until the page answers, seconds until its picture is there, megabytes then."""
    from playwright.sync_api import Error

    begun = time.perf_counter()
    command = [sys.executable, "app.py", "--port", str(port)]
    process = subprocess.Popen(command, cwd=_ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    page = browser.new_page()
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
        page.get_by_text(_READY).first.wait_for(timeout=120_000)
        shown = time.perf_counter() - begun
        return answered, shown, _resident(process.pid)
    finally:
        page.close()
        process.terminate()
        process.wait(30)


def _resident(pid: int) -> float:
    """Megabytes of a process, where the system tells (Linux)."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")), float("nan"))
