"""Components with properties of their own and events of their own, which Gradio does not tell apart."""

from __future__ import annotations

from typing import Any

import gradio as gr

__all__ = ["HTML", "tell_properties_from_events"]


class HTML(gr.HTML):
    """Tells its properties from its events.

    Gradio takes every name that stands in quotes in a component's script for that of an event. Where it is that of a
    property, an answer would carry the event's ``repr`` beside the value, with an address of this process's memory.
    """

    def __getattr__(self, name: str) -> Any:
        if name in (self.__dict__.get("props") or ()):
            raise AttributeError(f"'{name}' is a property of this component, in its props")
        return super().__getattr__(name)


def tell_properties_from_events(demo: gr.Blocks) -> None:
    """Make every `gr.HTML` of a page one that does."""
    for block in demo.blocks.values():
        if type(block) is gr.HTML:
            block.__class__ = HTML
