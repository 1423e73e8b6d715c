"""What the server remembers of each browser tab between two requests, kept small.

Gradio copies every component that an answer changes, under a number of its own, and once such a copy has been asked for
a value it is entered anew under that number: with every request more of them, each with a picture, 0.4 MB a drag in our
page. It also never forgets a session before there are ten thousand; every call of a program is one.
"""

from __future__ import annotations

import datetime
from typing import Any

import gradio as gr
from gradio.blocks import Block, Blocks
from gradio.state_holder import SessionState, StateHolder

__all__ = ["SessionStates"]

_UNUSED = 60.0  # seconds after which a session without anything to remember is forgotten


class SessionStates(StateHolder):
    """Sessions by name, in place of Gradio's own."""

    def __getitem__(self, session_id: str) -> SessionState:
        """That session; a new one if there is none."""
        if session_id not in self.session_data:
            self.session_data[session_id] = _Session(self.blocks)
        return super().__getitem__(session_id)

    def delete_all_expired_state(self) -> None:
        """Called every second: forget values that are too old, and sessions that have none and never had, or whose tab
        is closed."""
        super().delete_all_expired_state()
        late = datetime.datetime.now() - datetime.timedelta(seconds=_UNUSED)
        for name, session in list(self.session_data.items()):
            nothing = not any(value is not None for value in session.state_data.values())
            if nothing and (session.is_closed or not session._state_ttl) and self.time_last_used[name] < late:
                self.session_data.pop(name, None)
                self.time_last_used.pop(name, None)


class _Session(SessionState):
    """What is remembered of one of them: its values, and the components as its page shows them.

    Args:
        blocks: the page.
    """

    def __init__(self, blocks: Blocks) -> None:
        super().__init__(blocks)
        # For links that bring a page's values along, which ours has none of.
        self.config_values = {}

    def __setitem__(self, key: int, value: Any) -> None:
        """Remember a value, or a component in place of the one of that number."""
        if not isinstance(value, Block):
            super().__setitem__(key, value)
            self.config_values = {}
        elif not isinstance(value, gr.HTML) or value.visible != self.blocks_config.blocks[key].visible:
            # What an HTML shows is the page's business alone, which takes whatever comes; pictures are in there.
            # But whether it is seen is read off this copy when the answer is sent.
            value._id = key
            self.blocks_config.blocks[key] = value

    def _update_config(self, key: int) -> None:
        pass

    def _update_value_in_config(self, key: int, value: Any) -> None:
        pass
