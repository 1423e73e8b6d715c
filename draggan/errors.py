"""Everything that DragGAN raises on purpose.

    DragGANError
    ├── ConfigError            a setting is outside its allowed range
    ├── LatentError            a latent code does not fit the generator
    ├── PointError             handle and target points cannot be used
    ├── MaskError              the mask does not fit the picture
    ├── CheckpointError        a model file cannot be read
    │   ├── UnsafeCheckpoint   it asks for something that only a program would ask for
    │   └── ModelNotFound      no such registry name or file
    ├── DownloadError          a file could not be fetched
    ├── ExportError            a picture, an animation or a recipe could not be written
    ├── RecipeError            a recipe cannot be read, or does not fit the model
    │   └── NoRecipeError      a picture or film that has none
    ├── PhotoError             a photo cannot be read, or cannot be cut as asked
    ├── LimitError             more is asked for than a visitor may have
    ├── ConsentError           nobody has agreed yet to what has to be agreed to first
    ├── ModerationError        a picture was held back, by a rule, a classifier or a person
    ├── AuditError             the record of exports could not be written or read
    ├── VerifyError            a file cannot be checked for marks
    └── OpBuildError           a compiled op could not be built (costs speed only)

A message says what was given, what is allowed and what to do. The page and the command line show it as it is.
"""

from __future__ import annotations

__all__ = [
    "AuditError",
    "CheckpointError",
    "ConfigError",
    "ConsentError",
    "DownloadError",
    "DragGANError",
    "ExportError",
    "LatentError",
    "LimitError",
    "MaskError",
    "ModelNotFound",
    "ModerationError",
    "NoRecipeError",
    "OpBuildError",
    "PhotoError",
    "PointError",
    "RecipeError",
    "UnsafeCheckpoint",
    "VerifyError",
]


class DragGANError(Exception):
    """Base of every error below; catch this one to show the message to a person."""


class ConfigError(DragGANError):
    """A setting is outside its allowed range."""


class LatentError(DragGANError):
    """A latent code has the wrong shape or values for the generator it is used with."""


class PointError(DragGANError):
    """Handle and target points are missing, unpaired, not finite or outside the picture."""


class MaskError(DragGANError):
    """The mask has another size than the picture, or leaves nothing that may move."""


class CheckpointError(DragGANError):
    """A model file is missing, damaged, or of a kind that cannot be read."""


class UnsafeCheckpoint(CheckpointError):
    """A model file asks for something outside the inert subset that weights need. Nothing of it was run."""


class ModelNotFound(CheckpointError):
    """Neither a registry name nor an existing file."""


class DownloadError(DragGANError):
    """A file could not be fetched completely and unchanged. It is absent then; a part is kept only to go on from."""


class ExportError(DragGANError):
    """A picture, an animation or a recipe could not be written."""


class RecipeError(DragGANError):
    """A recipe is not readable, of an unknown version, or made for other weights than there are here."""


class NoRecipeError(RecipeError):
    """A picture or film has no recipe in it: it was not saved here."""


class PhotoError(DragGANError):
    """A photo cannot be read, is too small or too large, or cannot be cut as asked."""


class LimitError(DragGANError):
    """More is asked for than one visitor may have of this engine: points, radii, steps, drags at once."""


class ConsentError(DragGANError):
    """Nobody has agreed yet to what has to be agreed to before a file is taken."""


class ModerationError(DragGANError):
    """A picture is held back: refused, or waiting until a person has looked at it."""


class AuditError(DragGANError):
    """The record of exports could not be written or read, or something may not be written there."""


class VerifyError(DragGANError):
    """A file is missing, too large, or of a kind whose marks cannot be read."""


class OpBuildError(DragGANError):
    """A compiled op could not be built. The plain PyTorch twin does the same work, more slowly."""
