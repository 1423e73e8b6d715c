"""The canvas: a picture with points and a mask drawn over it, exact to the pixel at any size, zoom and density."""
