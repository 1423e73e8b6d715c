"""``python -m benchmarks NAME [--quick] [--out FILE]``: one benchmark, its table on standard output.

Every benchmark is a module of this package with ``main(argv) -> int``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

__all__ = ["BENCHMARKS", "main"]

BENCHMARKS = {
    "step": "seconds per step against the published procedure",
    "roofline": "what a step's arithmetic needs at the rate its convolutions reach here, layer by layer",
    "windows": "windows of StyleGAN3 maps against whole maps",
    "memory": "peak memory of a process that drags",
    "scaling": "seconds and memory over picture size and number of handles",
    "precision": "whether drags in lower precision end at the same place, and sooner",
    "mask": "how well the fixed region is held, by the loss and to the last bit, and what that costs",
    "preview": "how much showing pictures slows a drag",
    "load": "reading a model file the first and the second time, against plain unpickling",
    "versions": "two versions of the project against each other: steps, drags, the start",
    "house": "how the code is put together: circles, sizes, things stated more than once",
    "start": "from the command to the first picture in a browser",
    "page": "steps and pictures a second in the page, and how soon something moves",
    "live": "pulling by hand in the page: pictures a second, and how far they lag behind the pointer",
    "service": "the service's live connection: pictures a second and lag, one client and four",
    "ray": "replicas and batches on two nodes: the same pictures, what it costs, what is killed",
    "capacity": "how many machines so many visitors a day need, simulated with measured service times",
    "fairness": "a short drag beside eight long ones: how long it waits, and how soon Stop stops",
    "drags": "sixty fixed drags on the built-in cat through the command line",
    "batch": "many recipes: a batch against a loop, and a batch that is killed and goes on",
    "inversion": "photos: how near a model comes, how soon, what it says of them, whether drags still work",
    "crops": "crops proposed on photos: how often they are found and right",
    "photos": "real photographs: seams of what is pasted back; what bad files are answered",
    "truth": "whether what is said to have arrived has arrived",
    "solvers": "both solvers on landmarks of the built-in models",
    "examples": "the examples of the page, before and after",
    "quality": "how well the built-in models draw held scenes: generated above rendered, with figures",
    "on_device": "a picture, a preview, a whole drag and Live: what a person waits for, on a device",
    "gpu": "everything that a GPU can be asked, in the time there is: builds, tests, measures, trains",
    "target": "from start to arrival at 512 px against the published procedure, on the widened cat",
    "evaluation": "how well solvers drag: landmarks, reconstruction, there and back, masks, and how well models draw",
    "video": "an edit on every frame of a film: flicker, truth of the edit, seconds a frame",
    "visitors": "sixteen visitors at once, two of them attackers: errors, waiting, Stop, memory",
    "restore": "a page is killed in a drag and comes back: seconds until an open tab shows its work again",
    "hostile": "everything known to harm a page or its reader: refused, executed, a picture after it",
    "fuzz": "made-up requests to a running page, and made-up files to the readers",
    "watermark": "whether the invisible mark is found again after what happens to pictures, and where it is not",
    "moderation": "what the optional classifier says of harmless pictures: false alarms, milliseconds",
    "soak": "eight clients save for three minutes: nothing is left on the disk, no row of the record is lost",
    "ops": "compiled operations against their PyTorch twins",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmark; what follows the name is passed on to it."""
    args = list(sys.argv[1:] if argv is None else argv)
    if not args or args[0] not in BENCHMARKS:
        print("usage: python -m benchmarks NAME [--quick]\n")
        print("\n".join(f"  {name:10} {text}" for name, text in BENCHMARKS.items()))
        return 0 if args in (["-h"], ["--help"]) else 2
    # As the page sets it, before PyTorch is imported: beside other work a step is several times faster.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return importlib.import_module(f"benchmarks.{args[0]}").main(args[1:]) or 0


if __name__ == "__main__":
    sys.exit(main())
