"""Somebody's own photo becomes a picture that can be dragged, and goes back to where it was.

`draggan.photo` reads it, `find_crop` proposes what is cut out, `crop` cuts it out, `invert` finds the latent code and
the tuned weights that draw it, `verdict` says how well the model knows such pictures, `paste` puts what was made of it
back into the photo.
"""

from draggan.inversion.crop import Crop, aligned_face, box, centred, cut, read_crop
from draggan.inversion.duration import Expected, expected, timing
from draggan.inversion.find_crop import CropFinder, FoundCrop, crop_finder
from draggan.inversion.invert import Inversion, InversionResult, InversionStep
from draggan.inversion.paste import paste
from draggan.inversion.verdict import VERDICTS, Verdict
from draggan.photo import Photo, read_photo

__all__ = [
    "VERDICTS",
    "Crop",
    "CropFinder",
    "Expected",
    "FoundCrop",
    "Inversion",
    "InversionResult",
    "InversionStep",
    "Photo",
    "Verdict",
    "aligned_face",
    "box",
    "centred",
    "crop_finder",
    "cut",
    "expected",
    "paste",
    "read_crop",
    "read_photo",
    "timing",
]
