"""TrustMark as the invisible mark, for operators who want the one that C2PA's list of soft bindings names.

Adobe's learned watermark (Bui, Agarwal and Collomosse, "TrustMark", ICCV 2025; MIT licence). It brings PyTorch
Lightning and torchvision and fetches its weights at the first use, so it is not an extra of this package: ``pip install
trustmark``, then ``DRAGGAN_WATERMARK=trustmark``. It has no secret: anybody can read its marks, and write them.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from draggan.errors import ConfigError
from draggan.provenance.watermark import IDENTITY_BYTES, Found

__all__ = ["TrustMark"]

_BITS = 8 * IDENTITY_BYTES


class TrustMark:
    """See `draggan.provenance.watermark.Watermark`.

    Args:
        model: of the package, made from its class; None: variant Q, on the processor.

    Raises:
        ConfigError: the package is not there, or too small for a number of ours.
    """

    name = "TrustMark"

    def __init__(self, model: Any = None) -> None:
        self._model = _made() if model is None else model
        self._room = int(self._model.schemaCapacity())
        self._lock = threading.Lock()
        if self._room < _BITS:
            raise ConfigError(f"this TrustMark carries {self._room} bits, and a number has {_BITS}; use BCH_5 or BCH_4")

    def embed(
        self, pixels: UInt8[np.ndarray, "height width channels"], identity: bytes
    ) -> UInt8[np.ndarray, "height width channels"]:
        """The number, and zeros where there is more room: they are a check."""
        bits = "".join(f"{byte:08b}" for byte in identity).ljust(self._room, "0")
        with self._lock:
            marked = self._model.encode(Image.fromarray(pixels[..., :3]), bits, MODE="binary")
        return np.concatenate([np.asarray(marked.convert("RGB")), pixels[..., 3:]], axis=2)

    def detect(
        self, frames: Sequence[UInt8[np.ndarray, "height width channels"]], *, until: float = float("inf")
    ) -> Found | None:
        """The mark in the first frame that has one."""
        for pixels in frames[:3]:
            with self._lock:
                bits, there, _ = self._model.decode(Image.fromarray(pixels[..., :3]), MODE="binary")
            if there and len(bits) == self._room and set(bits[_BITS:]) <= {"0"}:
                return Found(identity=f"{int(bits[:_BITS], 2):0{2 * IDENTITY_BYTES}x}", score=None, chance=None)
        return None


def _made() -> Any:
    try:
        library = importlib.import_module("trustmark")
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"DRAGGAN_WATERMARK=trustmark needs a package that cannot be imported ({error}); pip install trustmark"
        ) from error
    kind = library.TrustMark
    return kind(verbose=False, model_type="Q", encoding_type=kind.Encoding.BCH_5, loadRemover=False)
