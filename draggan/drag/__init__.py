"""The drag itself; knows generators only through `draggan.generators.base`."""

from draggan.drag.drag import Drag
from draggan.drag.prepare import Reference
from draggan.drag.step import FADED, DragStep
from draggan.drag.stopping import Outcome

__all__ = ["FADED", "Drag", "DragStep", "Outcome", "Reference"]
