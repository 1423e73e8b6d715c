"""The service's ``/v1/live``: pictures a second, and how far they lag behind the targets, for one client and four.

``python app.py`` in a process of its own. Every client takes hold of the nose of another built-in cat and moves it
along a figure of eight, a target every 33 ms, over the loopback. For every picture: when the targets that it was made
for were sent, and when they first had a picture.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import websockets

from benchmarks import machine
from benchmarks.timing import publish, table

__all__ = ["Seen", "clients", "main", "until_up"]

_EVERY = 1 / 30
_SWING = (7.0, 4.0)  # pixels, half the width and height of the figure
_NOSES = ((7, (156.0, 156.0)), (0, (128.0, 156.0)), (3, (124.0, 158.0)), (4, (124.0, 156.0)))


@dataclass
class Seen:
    """What one client has seen: seconds since its first target."""

    pictures: list[float] = field(default_factory=list)
    lags: list[float] = field(default_factory=list)  # of the first picture for its targets
    behind: list[float] = field(default_factory=list)  # of every picture: the age of its targets
    bytes: int = 0


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks service", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 seconds each")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--port", type=int, default=7994)
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before the first pull; operators are built")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    seconds = 5.0 if args.quick else args.seconds
    here = machine.describe()
    server = subprocess.Popen([sys.executable, "app.py", "--port", str(args.port)], stdout=subprocess.DEVNULL)
    rows: list[list[object]] = []
    try:
        asyncio.run(until_up(args.port))
        time.sleep(args.settle)
        asyncio.run(clients(args.port, 1, 3.0))  # what the first pull of a process prepares
        for count in args.clients:
            before = _processor_seconds(server.pid)
            seen = asyncio.run(clients(args.port, count, seconds))
            used = _processor_seconds(server.pid) - before
            shown = sum(len(one.pictures) for one in seen)
            lags, behind = (np.concatenate([getattr(one, name) for one in seen]) for name in ("lags", "behind"))
            rows.append(
                [
                    count,
                    f"{shown / seconds / count:.1f}",
                    f"{shown / seconds:.1f}",
                    *(f"{1e3 * np.quantile(lags, q):.0f}" for q in (0.5, 0.95)),
                    *(f"{1e3 * np.quantile(behind, q):.0f}" for q in (0.5, 0.95)),
                    f"{1e3 * used / shown:.0f}",
                    f"{sum(one.bytes for one in seen) / shown / 1e3:.1f}",
                ]
            )
            print(rows[-1], f"load {os.getloadavg()[0]:.1f}", flush=True)
    finally:
        server.terminate()
        server.wait(20)
    columns = [
        *("clients", "pictures a second each", "all together", "lag p50 ms", "lag p95 ms"),
        *("age p50 ms", "age p95 ms", "server's processor ms a picture", "kB a picture"),
    ]
    text = (
        f"{here.markdown()}\n\nA target every 33 ms for {seconds:g} s, previews of 128 px. Lag: from sending "
        f"targets to the first picture made for them. Age: of the targets that a picture was made "
        f"for, when it comes.\n\n"
        f"{table(columns, rows)}"
    )
    publish(text, args.out)
    return 0


async def until_up(port: int) -> None:
    """Wait until somebody listens there."""
    for _ in range(600):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        except OSError:
            await asyncio.sleep(0.2)
    raise SystemExit("the page did not start")


async def clients(port: int, count: int, seconds: float) -> list[Seen]:
    """What so many clients see that pull at once, for so long."""
    return list(await asyncio.gather(*(_client(port, *_NOSES[k % len(_NOSES)], seconds) for k in range(count))))


async def _client(port: int, seed: int, nose: tuple[float, float], seconds: float) -> Seen:
    seen, sent, first = Seen(), {}, set()
    async with websockets.connect(f"ws://127.0.0.1:{port}/v1/live", max_size=None) as socket:
        recipe = {"model": "cat", "seed": seed}
        await socket.send(json.dumps({"recipe": recipe, "handles": [nose], "height": 128}))
        began = json.loads(await socket.recv())
        assert began.get("began"), began
        started = time.perf_counter()

        async def move() -> None:
            number = 0
            while (now := time.perf_counter() - started) < seconds:
                number += 1
                turn = 2 * math.pi * now / 4
                at = [nose[0] + _SWING[0] * math.sin(turn), nose[1] + _SWING[1] * math.sin(2 * turn)]
                sent[number] = time.perf_counter()
                await socket.send(json.dumps({"targets": [at], "id": number}))
                await asyncio.sleep(max(started + number * _EVERY - time.perf_counter(), 0))
            await socket.send('{"stop": true}')

        moving = asyncio.create_task(move())
        async for message in socket:
            now = time.perf_counter()
            if isinstance(message, str):
                assert "error" not in json.loads(message), message
                break
            length = int.from_bytes(message[:4], "big")
            number = json.loads(message[4 : 4 + length])["id"]
            seen.pictures.append(now - started)
            seen.bytes += len(message)
            if number in sent:
                seen.behind.append(now - sent[number])
                if number not in first:
                    first.add(number)
                    seen.lags.append(now - sent[number])
        await moving
    return seen


def _processor_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
