"""Who is next: one step of each task in turn, weighed by the time that its visitor has used.

Every visitor has an account of the computing time that was used for it. The next step is always that of the visitor
who has used the least, and of this visitor's tasks that of the one that has. Nobody holds a place, and nobody waits for
the end of somebody else's task. A visitor who comes anew, or back after a rest, stands as far as the others have come,
less a small credit: something short is over before it has to wait at all, and only a rest brings the credit back.
Patient tasks have what is left over: their turn comes while nothing else is done or waits to be.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from draggan.errors import LimitError

__all__ = ["Scheduler", "State", "Task"]

log = logging.getLogger(__name__)

State: TypeAlias = Literal["ready", "resting", "over"]

_CREDIT = 2.0  # seconds of computing
_CHECK_EVERY = 0.5  # seconds between two looks at tasks that nobody may be waiting for
_IDLE = 30.0  # seconds after which a thread without anything to do ends


@runtime_checkable
class Task(Protocol):
    """Something that is done step by step."""

    visitor: str

    @property
    def urgent(self) -> bool:
        """Whether it was asked to end: its last step is short, and comes before all others."""

    @property
    def patient(self) -> bool:
        """Whether it is done only while nothing else is."""

    def step(self) -> State:
        """Do the next step, never sleeping. "resting": there is nothing to do until the scheduler is told; "over":
        never call again. Must not raise."""

    def check(self) -> None:
        """Called now and then, while it rests too: the place to give up."""


@dataclass(eq=False)
class _Account:
    """What a visitor has used, seconds, including what the steps under way are expected to take."""

    used: float = 0.0


@dataclass(eq=False)
class _Entry:
    task: Task
    account: _Account
    number: int
    used: float = 0.0
    expected: float = 0.0  # seconds of the next step: as the last one took
    running: bool = False
    resting: bool = False
    news: bool = field(default=False)  # told during a step that there is something to do


class Scheduler:
    """Threads that share themselves among tasks.

    Args:
        workers: threads; they begin when there is something to do, and end some time after.
        clock: seconds, ever increasing.
    """

    def __init__(self, workers: int = 2, clock: Callable[[], float] = time.perf_counter) -> None:
        self._workers = workers
        self._clock = clock
        self._changed = threading.Condition()
        self._entries: dict[Task, _Entry] = {}
        self._accounts: dict[str, _Account] = {}
        self._reached = 0.0  # how far those have come who are served
        self._threads = 0
        self._idle = 0
        self._count = 0
        self._checked = clock()

    def add(self, task: Task) -> None:
        """Begin with a task.

        Raises:
            LimitError: there is no thread for it, and none can be started; nothing was begun.
        """
        with self._changed:
            self._forget_accounts()
            account = self._accounts.setdefault(task.visitor, _Account())
            self._count += 1
            entry = _Entry(task, account, self._count)
            self._entries[task] = entry
            self._catch_up(entry)
            try:
                self._call_a_thread()
            except LimitError:
                del self._entries[task]
                raise

    def wake(self, task: Task) -> None:
        """There is something to do for a task that may be resting. May be called from any thread, for any task."""
        with self._changed:
            entry = self._entries.get(task)
            if entry is None:
                return
            entry.news = True
            if entry.resting:
                entry.resting = False
                self._catch_up(entry)
                self._call_a_thread()

    def remove(self, task: Task) -> None:
        """Nobody wants a task any more. One whose step is under way stays until that says how it goes on."""
        with self._changed:
            entry = self._entries.get(task)
            if entry is not None and not entry.running:
                del self._entries[task]

    def __len__(self) -> int:
        """Tasks that are not over."""
        return len(self._entries)

    def _call_a_thread(self) -> None:
        """For one more task that is ready: one that waits, or a new one where those that wait have work already."""
        ready = sum(not (e.running or e.resting) for e in self._entries.values())
        if ready > self._idle and self._threads < self._workers:
            self._start_a_thread()
        self._changed.notify()

    def _start_a_thread(self) -> None:
        try:
            threading.Thread(target=self._work, name="engine", daemon=True).start()
        except RuntimeError as error:
            # The system has no more of them now; those that there are do all of it meanwhile.
            if not self._threads:
                raise LimitError("this machine can start no more threads at the moment; try again later") from error
            log.warning("the engine computes with %d of %d threads: %s", self._threads, self._workers, error)
        else:
            self._threads += 1

    def _catch_up(self, entry: _Entry) -> None:
        """A new visitor, or one back from a rest, starts level with the others, less the credit."""
        entry.account.used = max(entry.account.used, self._reached - _CREDIT)
        others = [e.used for e in self._entries.values() if e.account is entry.account and e is not entry]
        entry.used = max(entry.used, min(others, default=0.0))

    def _forget_accounts(self) -> None:
        """An account that is older than the credit says nothing any more."""
        active = {entry.task.visitor for entry in self._entries.values()}
        for visitor, account in list(self._accounts.items()):
            if visitor not in active and account.used <= self._reached - _CREDIT:
                del self._accounts[visitor]

    def _next(self) -> _Entry | None:
        """Whose turn it is; None: there is nothing to do now."""
        ready = [e for e in self._entries.values() if not (e.running or e.resting)]
        if not ready:
            return None
        urgent = [e for e in ready if e.task.urgent]
        if urgent:
            return urgent[0]
        eager = [e for e in ready if not e.task.patient]
        if not eager and any(e.running and not e.task.patient for e in self._entries.values()):
            return None
        return min(eager or ready, key=lambda e: (e.account.used, e.used, e.number))

    def _work(self) -> None:
        while (entry := self._take()) is not None:
            started = self._clock()
            try:
                state = entry.task.step()
            except Exception:
                log.exception("a task has failed that should have said why")
                state = "over"
            self._give_back(entry, state, self._clock() - started)
            self._check_all()

    def _take(self) -> _Entry | None:
        """The next entry, once there is one; None: there was nothing to do for long."""
        idle_since = self._clock()
        while True:
            with self._changed:
                entry = self._next()
                if entry is not None:
                    entry.running, entry.news = True, False
                    entry.account.used += entry.expected
                    self._reached = max(self._reached, entry.account.used - entry.expected)
                    return entry
                if not self._entries and self._clock() - idle_since > _IDLE:
                    self._threads -= 1
                    return None
                self._idle += 1
                self._changed.wait(_CHECK_EVERY if self._entries else _IDLE)
                self._idle -= 1
            self._check_all()

    def _give_back(self, entry: _Entry, state: State, seconds: float) -> None:
        with self._changed:
            entry.running = False
            entry.account.used += seconds - entry.expected
            entry.used += seconds
            entry.expected = seconds
            if state == "over":
                del self._entries[entry.task]
            elif state == "resting" and not entry.news:
                entry.resting = True
            else:
                self._changed.notify()

    def _check_all(self) -> None:
        with self._changed:
            if self._clock() - self._checked < _CHECK_EVERY:
                return
            self._checked = self._clock()
            tasks = list(self._entries)
        # With no lock held: a task may stop, and wake itself.
        for task in tasks:
            try:
                task.check()
            except Exception:
                # The thread is everybody's: it goes on, and the task with it.
                log.exception("a look at a task has failed")
