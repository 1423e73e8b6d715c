"""Who is next: what a person does in a tab is done one thing after the other."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Iterator
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

    Args:
        state: the key of the session among the updates that handlers make.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        # Both live as long as somebody else holds them: the page's state a session, whoever waits for it a lock.
        self._newest: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def of(
        self,
        handler: Callable[..., Any],
        *,
        unless: Callable[[str, Session | None], dict[Any, Any] | None] = lambda tab, session: None,
    ) -> Callable[..., Any]:
        """The handler, made to wait for its turn; as before a function, or a generator function.

        The turn of a generator ends with its first updates: whoever comes next does not wait until a drag has ended.
        Nor may it: the threads of the server would all wait, and none be left to go on with the drag. Whatever changes
        the session after that takes another turn, with `turn`, and says what became of it, with `keep`.

        Args:
            handler: takes a session first, perhaps a ``request`` somewhere, and makes updates.
            unless: asked first, in the handler's turn, with the tab and its session; updates that it returns take the
                place of the handler's.
        """
        names = [*inspect.signature(handler).parameters]
        asks = names.index("request") if "request" in names else None

        def call(request: gr.Request, session: Session | None, others: tuple[Any, ...]) -> Any:
            values: list[Any] = [session, *others]
            if asks is not None:
                values.insert(asks, request)
            return handler(*values)

        def once(updates: dict[Any, Any]) -> Generator[dict[Any, Any], None, None]:
            yield updates

        # Gradio looks at what kind of function it is, at its name and its parameters.
        def answer(request: gr.Request, session: Session | None, *others: Any) -> dict[Any, Any]:
            tab = tab_of(request)
            with self.turn(tab, session) as newest:
                refused = unless(tab, newest)
                return self.keep(tab, call(request, newest, others) if refused is None else refused)

        def follow(request: gr.Request, session: Session | None, *others: Any) -> Iterator[dict[Any, Any]]:
            tab = tab_of(request)
            with ExitStack() as held:
                newest = held.enter_context(self.turn(tab, session))
                refused = unless(tab, newest)
                with closing(call(request, newest, others) if refused is None else once(refused)) as all_updates:
                    first = next(all_updates, None)
                    if first is None:
                        return
                    self.keep(tab, first)
                    held.close()
                    yield first
                    yield from all_updates

        return follow if inspect.isgeneratorfunction(handler) else answer

    @contextmanager
    def turn(self, tab: str, session: Session | None) -> Iterator[Session | None]:
        """Wait for the tab's turn; the newest session there is. Not to be held across a ``yield``.

        Callers without a tab have nothing in common.

        Args:
            session: the newest one as far as the caller knows.
        """
        if not tab:
            yield session
            return
        with self._guard:
            lock = self._locks.setdefault(tab, _Lock())
        with lock.held:
            with self._guard:
                newest = self._newest.get(tab, session)
            yield newest

    def keep(self, tab: str, updates: dict[Any, Any]) -> dict[Any, Any]:
        """Remember the session among these updates, if there is one: it is the newest now. Returns the updates."""
        session = updates.get(self._state)
        if tab and session is not None:
            with self._guard:
                self._newest[tab] = session
        return updates


class _Lock:
    def __init__(self) -> None:
        self.held = threading.Lock()
