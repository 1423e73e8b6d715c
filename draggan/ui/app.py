"""The page, ready to be launched."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr

from draggan.engine.base import Engine
from draggan.engine.local import LocalEngine
from draggan.engine.models import Models
from draggan.service.app import build_service
from draggan.ui import api, messages
from draggan.ui.browser_storage.component import storage_script
from draggan.ui.canvas.component import CSS
from draggan.ui.events import wire
from draggan.ui.html import tell_properties_from_events
from draggan.ui.layout import Needs, Parts
from draggan.ui.live_channel import LiveDrags
from draggan.ui.model_picker import component as picker
from draggan.ui.page import Page
from draggan.ui.server.site import Site
from draggan.ui.settings_box import component as settings
from draggan.ui.start_pictures import component as starts

__all__ = ["build", "launch_options"]

_HERE = Path(__file__).parent


def build(
    models: Models, engine: Engine | None = None, *, drags: int = 32, local: bool = False, site: Site | None = None
) -> gr.Blocks:
    """The page.

    Args:
        models: what it offers; the first one is shown at the start.
        engine: what draws and drags; None: one in this process.
        drags: how many the page shows at the same time, over all visitors.
        local: nobody but this machine's own user can reach the page, so that it may offer to open any file by its path.
        site: where it is served; None: on this machine.
    """
    with gr.Blocks(title="DragGAN", analytics_enabled=False, fill_width=True, delete_cache=(3600, 86400)) as demo:
        engine, live, site = engine or LocalEngine(models), LiveDrags(), site or Site()
        parts = Parts(Needs(models=models, steer=live.answer, limits=site.limits, local=local))
        wire(demo, Page(parts, models, engine, live, site), local=local)
        site.service = build_service(
            engine, models, site.limits, ready=site.why_not_ready, deployment=site.deployment, tools=site.tools
        )
        api.register(engine, models, site)
    tell_properties_from_events(demo)
    # Twice as many handlers as drags, so that those who drag do not keep others from clicking.
    # Handlers are reached through the queue alone: it ends them with whoever has asked.
    return demo.queue(max_size=256, default_concurrency_limit=2 * drags, api_open=False)


def launch_options(site: Site) -> dict[str, Any]:
    """What ``build(...).launch`` needs besides the address: style, limits, and nothing recorded or fetched.

    Args:
        site: that of the page, which shares with it who has agreed to what.
    """
    return site.launch_options(
        theme=_theme(),
        css_paths=[CSS, picker.CSS, settings.CSS, starts.CSS, _HERE / "page.css"],
        footer_links=["api", "settings"],
        head=f"<style>{_text('head.css')}</style><script>{_tips()}{_text('shared.js')}</script>{storage_script()}",
        max_threads=128,  # a drag holds one while it waits for its next picture
        run_history=False,  # came with a later Gradio than our oldest
    )


def _text(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _tips() -> str:
    """What parts of the page do, for the script that shows it where the pointer rests."""
    return f"window.dragganTips = {json.dumps({f'dg-{part}': tip for part, tip in messages.TIPS.items()})};\n"


def _theme() -> gr.themes.Base:
    """Fonts that every system has, so that nothing is fetched; main buttons dark enough for white letters."""
    theme = gr.themes.Default(
        primary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "monospace"],
    )
    return theme.set(
        block_title_text_color_dark="*body_text_color_subdued",
        # Gradio's own is darker than the others, as what cannot be pressed is.
        button_secondary_background_fill_hover_dark="*neutral_500",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
    )
