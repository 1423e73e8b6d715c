"""Networks that are known by name and cannot be used, so that a person is told what a file is."""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["family_of", "family_of_class"]

_FASTGAN = "a FastGAN (Projected GAN) generator"
_STYLEGAN1 = "a StyleGAN (first version) generator"
_STYLEGAN_XL = "a StyleGAN-XL generator"
# Class names, with their modules where the file has them.
_CLASSES = (
    (re.compile(r"fastgan", re.I), _FASTGAN),
    (re.compile(r"networks_stylegan\.|\bG_style\b"), _STYLEGAN1),
    (re.compile(r"SuperresGenerator|stylegan_?xl|networks_stylegan3_resetting", re.I), _STYLEGAN_XL),
)
# Names of tensors, anywhere in them.
_TENSORS = (
    (re.compile(r"(^|\.)mapping\.embed_proj\."), _STYLEGAN_XL),
    (re.compile(r"StyleMod/|style_mod\.|(^|\.)g_synthesis\.|(^|\.)progression\.[0-9]"), _STYLEGAN1),
    (re.compile(r"(^|\.)(feat_[0-9]+|se_[0-9]+|to_big)\."), _FASTGAN),
)


def family_of(names: Iterable[str]) -> str:
    """What network has tensors of these names, with its article; "" if we do not know."""
    for name in names:
        for pattern, family in _TENSORS:
            if pattern.search(name):
                return family
    return ""


def family_of_class(name: str) -> str:
    """What network a class of this name is, with its article; "" if we do not know."""
    return next((family for pattern, family in _CLASSES if pattern.search(name)), "")
