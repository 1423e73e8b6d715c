"""Who is next: what a person does in a tab is done one thing after the other."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from draggan.session import Session

__all__ = ["Turns", "tab_of"]


def tab_of(request: gr.Request | None) -> str:
    """What tells one browser tab from another."""
    return getattr(request, "session_hash", None) or ""


class Turns:
    """Gives every handler the session that the one before it in the same tab has left.

    Gradio begins together what is asked for together, each with the session that there was then: of two quick clicks
    on Undo one would be lost.
    """

    def __init__(self) -> None:
        # Both live as long as somebody else holds them: the page's state a session, whoever waits for it a lock.
        self._newest: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def of(self, handler: Callable[..., Any], state: Any) -> Callable[..., Any]:
        """The handler, made to wait for its turn; as before a function, or a generator function.

        The turn of a generator ends with its first updates: whoever comes next does not wait until a drag has ended.
        Nor may it: the threads of the server would all wait, and none be left to go on with the drag.

        Args:
            handler: takes a session first, perhaps a ``request`` somewhere, and makes updates.
            state: the key of the session among the updates.
        """
        names = [*inspect.signature(handler).parameters]
        asks = names.index("request") if "request" in names else None

        def call(request: gr.Request, session: Session | None, others: tuple[Any, ...]) -> Any:
            values: list[Any] = [session, *others]
            if asks is not None:
                values.insert(asks, request)
            return handler(*values)

        # Gradio looks at what kind of function it is, at its name and its parameters.
        def answer(request: gr.Request, session: Session | None, *others: Any) -> dict[Any, Any]:
            with self._turn(tab_of(request), session) as newest:
                return self._kept(tab_of(request), call(request, newest, others), state)

        def follow(request: gr.Request, session: Session | None, *others: Any) -> Iterator[dict[Any, Any]]:
            with ExitStack() as turn:
                newest = turn.enter_context(self._turn(tab_of(request), session))
                with closing(call(request, newest, others)) as all_updates:
                    for updates in all_updates:
                        kept = self._kept(tab_of(request), updates, state)
                        turn.close()
                        yield kept

        return follow if inspect.isgeneratorfunction(handler) else answer

    @contextmanager
    def _turn(self, tab: str, session: Session | None) -> Iterator[Session | None]:
        """Wait for the tab's turn; the newest session there is. Callers without a tab have nothing in common."""
        if not tab:
            yield session
            return
        with self._guard:
            lock = self._locks.setdefault(tab, _Lock())
        with lock.held:
            with self._guard:
                newest = self._newest.get(tab, session)
            yield newest

    def _kept(self, tab: str, updates: dict[Any, Any], state: Any) -> dict[Any, Any]:
        session = updates.get(state)
        if tab and session is not None:
            with self._guard:
                self._newest[tab] = session
        return updates


class _Lock:
    def __init__(self) -> None:
        self.held = threading.Lock()
