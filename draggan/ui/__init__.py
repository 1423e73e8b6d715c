"""The page. With ``app.py`` the only importer of gradio."""

from draggan.ui.app import build, launch_options
from draggan.ui.warmup import warm_up

__all__ = ["build", "launch_options", "warm_up"]
