"""The drag itself; knows generators only through `draggan.generators.base`."""

from draggan.drag.engine import Drag, DragStep, Outcome, Reference

__all__ = ["Drag", "DragStep", "Outcome", "Reference"]
