"""Somebody's own photo becomes a picture that can be dragged, and goes back to where it was.

`photo` reads it, `crop` cuts out what a model sees, `invert` finds the latent code and the tuned weights that draw it,
`verdict` says how well the model knows such pictures, `paste` puts what was made of it back into the photo.
"""

from draggan.inversion.crop import Crop, aligned_face, box, centred, cut, read_crop
from draggan.inversion.invert import Inversion, InversionResult, InversionStep
from draggan.inversion.paste import paste
from draggan.inversion.photo import Photo, read_photo
from draggan.inversion.verdict import VERDICTS, Verdict

__all__ = [
    "VERDICTS",
    "Crop",
    "Inversion",
    "InversionResult",
    "InversionStep",
    "Photo",
    "Verdict",
    "aligned_face",
    "box",
    "centred",
    "cut",
    "paste",
    "read_crop",
    "read_photo",
]
