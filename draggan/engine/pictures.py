"""What the pictures of a recipe are made of: of one latent each, or with masks of several.

The picture after an edit whose mask holds exactly is what its latent draws inside the mask, and outside it the picture
that the mask was painted on, which may be such a picture itself: what a mask has held stays held in all edits with that
mask. An edit without a mask lets everything change: its picture is what its latent alone draws.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.generators.base import Generator
from draggan.generators.blending import Blend, Picture
from draggan.recipe import Edit, Recipe

__all__ = ["PictureCache", "picture_after", "pictures_of"]


def pictures_of(recipe: Recipe, generator: Generator, suited: Mapping[str, Any]) -> list[Picture]:
    """The numbered pictures of a recipe, as far as their latents are known without a gap.

    Args:
        suited: settings that suit the model; those of the edits go before them.
    """
    pictures: list[Picture] = []
    for number, ws in enumerate(recipe.results):
        if ws is None:
            break
        latent = torch.tensor(ws, device=generator.device)
        edit = recipe.edits[number - 1] if number else None
        pictures.append(Picture(ws=latent) if edit is None else picture_after(edit, latent, pictures, suited))
    return pictures


def picture_after(
    edit: Edit, ws: Float[Tensor, "1 num_ws w_dim"], before: Sequence[Picture], suited: Mapping[str, Any]
) -> Picture:
    """The picture that an edit makes with that latent.

    Args:
        before: the numbered pictures up to the one that the edit begins with.
    """
    mask = edit.mask
    if mask is None or mask.allowed.all() or edit.config(suited).mask_hold != "exact":
        return Picture(ws=ws)
    return Picture(ws=ws, mask=mask.allowed, base=before[-1 if mask.picture is None else mask.picture])


class PictureCache:
    """Draws pictures; what was computed of the last few masks is kept, so that the next picture costs only its inside.

    Args:
        most: masks kept. Each keeps the generator that it belongs to.
    """

    def __init__(self, most: int = 4) -> None:
        self._most = most
        self._blends: OrderedDict[tuple[int, str], tuple[Generator, Blend]] = OrderedDict()
        self._lock = threading.Lock()

    def draw(self, generator: Generator, picture: Picture, height: int | None = None) -> Tensor:
        """The picture, or the smaller one of that height (`Generator.preview`), without gradients."""
        if picture.mask is None or picture.base is None:
            with torch.no_grad():
                return generator.draw(picture.ws, height)
        blend = self._blend(generator, picture.mask, picture.base)
        return blend.synthesis(picture.ws) if height is None else blend.preview(picture.ws, height)

    def _blend(self, generator: Generator, mask: np.ndarray, base: Picture) -> Blend:
        key = id(generator), _digest(mask, base)
        with self._lock:
            kept = self._blends.get(key)
            if kept is not None:
                self._blends.move_to_end(key)
                return kept[1]
        # In full precision, whoever asks: pictures of any precision are held to it.
        with torch.autocast(generator.device.type, enabled=False):
            blend = generator.blend(mask, base)
        with self._lock:
            self._blends[key] = generator, blend
            while len(self._blends) > self._most:
                self._blends.popitem(last=False)
        return blend


def _digest(mask: np.ndarray, base: Picture) -> str:
    """Of everything that the outside of a mask is made of."""
    found = hashlib.sha256(np.packbits(mask).tobytes())
    for layer in base.layers:
        found.update(layer.ws.cpu().numpy().tobytes())
        found.update(b"" if layer.mask is None else np.packbits(layer.mask).tobytes())
    return found.hexdigest()
