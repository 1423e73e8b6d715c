"""How long and how much memory loading takes: a generator of 512 px in a pickle of 120 MB, as published files are.

    python -m benchmarks load [--quick] [--out FILE]

Every measurement runs in a fresh process. Compared are Python's own ``pickle.load`` (with harmless classes in place of
the embedded program, PyTorch imported before the clock starts), our first reading (a child process reads, checks and
converts) and our second (the converted copy). Processor seconds include those of child processes. Memory is the peak
of resident memory of the one process; how much of it is there before the file is touched is given beside it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, timing

ROOT = Path(__file__).resolve().parent.parent

# Each prints one line of JSON: seconds, peak and base memory in bytes. VmHWM, unlike ru_maxrss, begins anew with exec.
_COMMON = """
import json, resource, sys, time
sys.path.insert(0, {root!r})

def memory(key):
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith(key)) * 1024

def report(start, base):
    seconds = time.perf_counter() - start[0]
    used, below = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = used.ru_utime + used.ru_stime + below.ru_utime + below.ru_stime - start[1]
    print(json.dumps(dict(seconds=seconds, cpu=cpu, peak=memory("VmHWM"), base=base)))

def now():
    return time.perf_counter(), time.process_time()
"""
_PLAIN = (
    _COMMON
    + """
import pickle, types
import torch
for name in ("torch_utils.persistence", "dnnlib.util"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["torch_utils.persistence"]._reconstruct_persistent_obj = lambda meta: types.SimpleNamespace(**meta)
sys.modules["dnnlib.util"].EasyDict = type("EasyDict", (dict,), dict(__module__="dnnlib.util"))
base, start = memory("VmRSS"), now()
with open({path!r}, "rb") as f:
    value = pickle.load(f)
report(start, base)
"""
)
_OURS = (
    _COMMON
    + """
from draggan.checkpoints.read import read_checkpoint
base, start = memory("VmRSS"), now()
read_checkpoint({path!r}, ("G_ema",), cache={cache!r})
report(start, base)
"""
)
_CHILD = (
    _COMMON
    + """
import types
package = types.ModuleType("draggan")
package.__path__ = [{root!r} + "/draggan"]
sys.modules["draggan"] = package
from draggan.checkpoints import sandbox
base, start = memory("VmRSS"), now()
sandbox.child_main(dict(source={path!r}, work={cache!r}, cache={cache!r}))
report(start, base)
"""
)
_BUILT = (
    _COMMON
    + """
from draggan.checkpoints.build import build_generator
from draggan.checkpoints.read import read_checkpoint
base, start = memory("VmRSS"), now()
build_generator(read_checkpoint({path!r}, ("G_ema",), cache={cache!r}))
report(start, base)
"""
)


def _measure(script: str, path: Path, cache: Path) -> dict[str, Any]:
    code = script.format(root=str(ROOT), path=str(path), cache=str(cache))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def make_file(path: Path, size: int) -> None:
    """A generator-only file with random weights, in the published format."""
    from tests.published import dumps, generator_file

    kwargs = {"z_dim": 512, "c_dim": 0, "w_dim": 512, "img_resolution": size, "img_channels": 3}
    path.write_bytes(dumps(generator_file(kwargs)))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; the table goes to standard output, and into a file with ``--out``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks load", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a 128 px generator, each measured once")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    options = parser.parse_args(argv)
    size, repeats = (128, 1) if options.quick else (512, 5)
    here = machine.describe()
    with tempfile.TemporaryDirectory(prefix="draggan-load-") as folder:
        path = Path(folder) / "model.pkl"
        make_file(path, size)
        what = f"A generator of {size} px in a file of {path.stat().st_size / 1e6:.0f} MB, {_steps(path)} reading steps"
        runs: dict[str, list[dict[str, Any]]] = {}
        for i in range(repeats):
            cache, work = Path(folder) / f"cache{i}", Path(folder) / f"work{i}"
            work.mkdir()
            for name, script, place in (
                ("`pickle.load`", _PLAIN, cache),
                ("first load", _OURS, cache),
                ("... its child alone", _CHILD, work),
                ("second load", _OURS, cache),
                ("second load, network built", _BUILT, cache),
            ):
                runs.setdefault(name, []).append(_measure(script, path, place))
    rows: list[list[object]] = []
    for name, results in runs.items():
        middle = {key: statistics.median(r[key] for r in results) for key in results[0]}
        rows.append(
            [
                name,
                f"{middle['seconds']:.2f} ({min(r['seconds'] for r in results):.2f})",
                f"{middle['cpu']:.2f}",
                f"{middle['peak'] / 1e6:.0f}",
                f"{middle['base'] / 1e6:.0f}",
            ]
        )
    columns = ["", "seconds, median (best)", "processor seconds", "peak memory MB", "before the file MB"]
    text = "\n".join(
        [
            "# Loading a model file",
            "",
            "`python -m benchmarks load`; see benchmarks/load.py for what is measured and how.",
            "",
            f"{here.markdown()}.",
            "",
            f"{what}; {repeats} runs of each by turns.",
            "",
            timing.table(columns, rows),
        ]
    )
    timing.publish(text, options.out)
    return 0


def _steps(path: Path) -> int:
    """How many of the reader's limited steps the file takes."""
    from draggan.checkpoints.detect import open_bytes
    from draggan.checkpoints.pickle.allowed import IN_PICKLES
    from draggan.checkpoints.pickle.budget import Budget
    from draggan.checkpoints.pickle.machine import PickleMachine

    budget = Budget()
    before = budget.steps
    PickleMachine(open_bytes(path), allowed=IN_PICKLES, budget=budget).load()
    return before - budget.steps


if __name__ == "__main__":
    sys.exit(main())
