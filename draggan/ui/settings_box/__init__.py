"""The settings of a drag, for people: three up front, the others for experts, lengths in pixels of the picture."""
