"""What a person does in one browser tab is done one thing after the other."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any
from weakref import WeakValueDictionary

import gradio as gr

from draggan.session import Session
from draggan.ui.server.callers import caller_of

__all__ = ["TabQueue", "owner_of", "tab_of", "visit_of", "visitor_of"]


def tab_of(request: gr.Request | None) -> str:
    """The name of the browser tab that a request comes from; empty for a caller without one."""
    return getattr(request, "session_hash", None) or ""


def visitor_of(request: gr.Request | None) -> str:
    """Whose budget something counts in, as the server has found; without one a tab's, or that of an address."""
    caller = caller_of(request)
    if caller is not None:
        return caller.visitor
    client = getattr(request, "client", None)
    return tab_of(request) or getattr(client, "host", None) or ""


def owner_of(request: gr.Request | None) -> str:
    """To whom a photo belongs: on one's own machine to its user, whatever the tab, so that a reload loses none."""
    caller = caller_of(request)
    return "" if caller is not None and caller.own_user else visitor_of(request)


def visit_of(request: gr.Request | None) -> str:
    """What a visit is known by: its tab, or the visitor who has none."""
    return tab_of(request) or visitor_of(request)


class TabQueue:
    """Gives every handler the session that the one before it in the same tab has left.

    Gradio starts together what is asked for together, each with the session that there was at that moment: of two quick
    clicks on Undo one would be lost.

    Args:
        state: the key of the session among the updates that handlers return.
    """

    def __init__(self, state: Any) -> None:
        self._state = state
        # Entries live as long as somebody else holds them: the page's state holds a session, a waiting caller a lock.
        self._newest: WeakValueDictionary[str, Session] = WeakValueDictionary()
        self._locks: WeakValueDictionary[str, _Lock] = WeakValueDictionary()
        self._guard = threading.Lock()

    def serialized(
        self,
        handler: Callable[..., Any],
        *,
        unless: Callable[[str, Session | None], dict[Any, Any] | None] = lambda tab, session: None,
    ) -> Callable[..., Any]:
        """The handler, made to wait until the tab is free; like the original a function, or a generator function.

        A generator holds the tab until its first updates only: what comes next does not wait for the end of a drag. Nor
        may it: all threads of the server would wait, and none be left to go on with the drag. Whatever changes the
        session later takes the tab again, with `exclusive`, and says what became of it, with `remember`.

        Args:
            handler: takes a session first, perhaps a ``request`` somewhere, and returns updates.
            unless: asked first, while the tab is held, with the tab and its session; updates that it returns take the
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
            with self.exclusive(tab, session) as newest:
                refused = unless(tab, newest)
                return self.remember(tab, call(request, newest, others) if refused is None else refused)

        def follow(request: gr.Request, session: Session | None, *others: Any) -> Iterator[dict[Any, Any]]:
            tab = tab_of(request)
            with ExitStack() as held:
                newest = held.enter_context(self.exclusive(tab, session))
                refused = unless(tab, newest)
                with closing(call(request, newest, others) if refused is None else once(refused)) as all_updates:
                    first = next(all_updates, None)
                    if first is None:
                        return
                    self.remember(tab, first)
                    held.close()
                    yield first
                    yield from all_updates

        return follow if inspect.isgeneratorfunction(handler) else answer

    @contextmanager
    def exclusive(self, tab: str, session: Session | None) -> Iterator[Session | None]:
        """Wait until the tab is free and hold it; gives its newest session. Not to be held across a ``yield``.

        Callers without a tab share nothing and never wait.

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

    def remember(self, tab: str, updates: dict[Any, Any]) -> dict[Any, Any]:
        """Take the session among these updates, if there is one, for the tab's newest. Returns the updates."""
        session = updates.get(self._state)
        if tab and session is not None:
            with self._guard:
                self._newest[tab] = session
        return updates


class _Lock:
    def __init__(self) -> None:
        self.held = threading.Lock()
