"""The page. With ``app.py`` the only importer of gradio."""

from draggan.ui.layout import build, launch_options
from draggan.ui.models import Model, Models, Shelf, Terms

__all__ = ["Model", "Models", "Shelf", "Terms", "build", "launch_options"]
