"""How many machines so many visitors a day need: a simulation of their busiest hour, with measured service times.

Visitors come by themselves (Poisson), more by day than by night. Each does some things one after the other, and looks
and thinks in between: drags, pulls by hand, other pictures. What they do goes to a replica that has their model, the
less busy of two at random, as Ray Serve does it; a replica divides its time evenly among all that are at it, as the
engine's fair turns do. A model that no replica has free is loaded first. Machines are enough if nineteen of twenty
drags end within a second and a half, and nine of ten pulls show eight pictures a second: half of what one alone shows.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from benchmarks.timing import publish, table

__all__ = ["Machine", "Outcome", "Visits", "main", "most", "needed", "simulated"]

_STEP = 0.05  # seconds of the simulation
_SOON, _SMOOTH = 1.5, 8.0  # seconds of a drag; pictures a second of a pull
# Processor seconds of the page's own process, for a picture of a pull (ray.md) and for anything else (a guess: a
# picture's marks and its PNG take most of it); how busy a process may be; kB of a picture of a pull (service.md) and of
# another.
_PAGE_FRAME, _PAGE_OTHER, _PAGE_BUSY = 0.025, 0.1, 0.7
_KB_FRAME, _KB_OTHER = 4.7, 45.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A replica: what things take when nothing else is at it.

    Attributes:
        name: for the table.
        drag: seconds of a drag, its picture included.
        frame: seconds of a picture of a pull: a step and a preview.
        picture: seconds of a picture alone.
        load: seconds to load a model from the disk.
        models: that it keeps.
        source: of these figures.
    """

    name: str
    drag: float
    frame: float
    picture: float
    load: float
    models: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Visits:
    """What visitors do. Nobody has measured that yet: these are assumptions.

    Attributes:
        day: visitors a day.
        swing: how much the arrivals of the busiest moment exceed the mean, as a share of it.
        actions: of a visitor, mean (geometric).
        think: seconds between two actions, mean (exponential).
        drags, pulls: shares of the actions; the rest asks for another picture.
        pull: seconds of a pull, mean (exponential).
        wanted: pictures a second that a pull takes at most.
        models: how many there are; the k-th is wanted 1/k times as often as the first.
        choices: replicas of which an action goes to the least busy; Ray Serve asks two.
    """

    day: float
    swing: float = 0.8
    actions: float = 12.0
    think: float = 12.0
    drags: float = 0.5
    pulls: float = 0.3
    pull: float = 5.0
    wanted: float = 20.0
    models: int = 12
    choices: int = 2

    @property
    def busiest(self) -> float:
        """Visitors a second at the busiest moment."""
        return self.day * (1 + self.swing) / 86400


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What visitors have seen.

    Attributes:
        drag, drag_slow: seconds of a drag, median and 95th percentile.
        pictures, pictures_slow: a second of a pull, median and 10th percentile.
        busy: share of the time that a replica computes.
        visitors: at once, mean.
        cold: share of the actions for which a model was loaded.
        frames: pictures of pulls, a second, all together.
        requests: other actions a second.
    """

    drag: float
    drag_slow: float
    pictures: float
    pictures_slow: float
    busy: float
    visitors: float
    cold: float
    frames: float
    requests: float

    @property
    def enough(self) -> bool:
        """Whether that is what visitors should see."""
        return self.drag_slow <= _SOON and self.pictures_slow >= _SMOOTH


CPU = Machine(
    name="2 cores, 128 px",
    drag=0.24,
    frame=1 / 16.2,
    picture=0.03,
    load=0.61,
    models=4,
    source="drag: fairness.md, alone; frame: service.md, one client; load: README.md, 124 MB, the first time",
)
GPU = Machine(
    name="H100, 128 px",
    drag=0.105,
    frame=0.022 + 0.0084,
    picture=0.0084,
    load=0.61,
    models=16,
    source="one H100: a drag of the cat 0.105 s, a second-order step 18 to 25 ms, a picture 8.4 ms",
)
LARGE = Machine(
    name="H100, 1024 px",
    drag=0.15,
    frame=0.025 + 0.0103,
    picture=0.0103,
    load=0.61,
    models=16,
    source="one H100: steps 18 to 25 ms whatever the size (6 of them assumed), a picture 10.3 ms",
)


def main(argv: Sequence[str] = ()) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks capacity", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some minutes of every busiest hour")
    parser.add_argument("--days", type=float, nargs="+", default=[100, 10_000, 1_000_000], help="visitors a day")
    parser.add_argument("--seed", type=int, default=0)
    for f in fields(Visits):
        if f.name != "day":
            parser.add_argument(f"--{f.name}", type=type(f.default), default=f.default)
    parser.add_argument("--out", type=Path, help="also write the tables to this file")
    args = parser.parse_args(argv)
    usual = Visits(day=1, **{f.name: getattr(args, f.name) for f in fields(Visits) if f.name != "day"})
    rows: list[list[object]] = []
    for machine in (CPU, GPU, LARGE):
        for day in args.days:
            visits = replace(usual, day=day)
            # As many visitors as make the tail of what they see certain, and no more than an hour.
            seconds = min(3600.0, max(300.0, 400 / visits.busiest)) / (6 if args.quick else 1)
            count, seen = needed(machine, visits, seconds, args.seed)
            rows.append(
                [
                    *(machine.name, f"{day:,.0f}", f"{seen.visitors:.3g}", count),
                    *(f"{seen.drag:.2f}", f"{seen.drag_slow:.2f}", f"{seen.pictures:.1f}", f"{seen.pictures_slow:.1f}"),
                    *(f"{100 * seen.busy:.0f} %", f"{100 * seen.cold:.1f} %"),
                    f"{seen.frames:.3g}",
                    math.ceil((seen.frames * _PAGE_FRAME + seen.requests * _PAGE_OTHER) / _PAGE_BUSY),
                    f"{(seen.frames * _KB_FRAME + seen.requests * _KB_OTHER) * 8e-3:.3g}",
                ]
            )
            print(rows[-1], flush=True)
    columns = [
        *("machine", "visitors a day", "at once", "machines"),
        *("drag p50 s", "p95", "pull, pictures/s p50", "p10"),
        *("busy", "models loaded", "pictures of pulls/s", "page processes", "Mbit/s"),
    ]
    alone = [[m.name, f"{most(m, usual, args.seed):,.0f}"] for m in (CPU, GPU, LARGE)]
    inputs: list[list[object]] = [
        [m.name, f"{m.drag:.3f}", f"{m.frame:.3f}", f"{m.picture:.3f}", m.load, m.models, m.source]
        for m in (CPU, GPU, LARGE)
    ]
    known = ["machine", "drag s", "frame s", "picture s", "load s", "models kept", "from"]
    told = ", ".join(f"{f.name} {getattr(usual, f.name):g}" for f in fields(Visits) if f.name != "day")
    text = (
        f"The busiest hour, simulated ({__doc__.splitlines()[0]})\n\n{table(columns, rows)}\n"
        f"{table(['one machine alone', 'visitors a day at most'], alone)}\n"
        f"Measured inputs:\n\n{table(known, inputs)}\nAssumed of visitors: {told}.\n"
    )
    publish(text, args.out)
    return 0


def needed(machine: Machine, visits: Visits, seconds: float, seed: int) -> tuple[int, Outcome]:
    """The fewest machines that are enough, and what is seen with them."""
    low, high = 0, 1
    seen: dict[int, Outcome] = {}

    def enough(count: int) -> bool:
        seen[count] = simulated(machine, visits, count, seconds, seed)
        return seen[count].enough

    # No fewer than what there is to do takes.
    work = visits.actions * (
        visits.drags * machine.drag + visits.pulls * visits.pull * min(visits.wanted * machine.frame, 1)
    )
    low = max(math.floor(0.9 * visits.busiest * work), 0)
    high = max(low, 1)
    while not enough(high):
        low, high = high, max(high + 1, math.ceil(1.25 * high))
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, seen[high]


def most(machine: Machine, visits: Visits, seed: int) -> float:
    """Visitors a day for whom one machine is enough, to a tenth."""

    def enough(day: float) -> bool:
        return simulated(machine, replace(visits, day=day), 1, 1200.0, seed).enough

    low, high = 50.0, 100.0
    while enough(high):
        low, high = high, 2 * high
    while high / low > 1.1:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if enough(middle) else (low, middle)
    return low


def simulated(machine: Machine, visits: Visits, count: int, seconds: float, seed: int) -> Outcome:
    """What visitors see in so long a time of their busiest hour.

    Args:
        count: machines.
    """
    random = np.random.default_rng(seed)
    begins, kinds, wishes = _actions(visits, seconds + 300, random)
    queue = np.argsort(begins)
    warm = np.zeros((count, visits.models), bool)
    used = np.zeros((count, visits.models))  # when last
    for k in range(count):
        warm[k, [(k * machine.models + j) % visits.models for j in range(min(machine.models, visits.models))]] = True
    home = np.zeros(0, int)
    left, until, kind, since, got = (np.zeros(0) for _ in range(5))
    drags: list[float] = []
    pulls: list[float] = []
    frames = busy = 0.0
    cold = done = position = 0
    load = np.zeros(count)  # how many are at each
    for tick in range(math.ceil((seconds + 300) / _STEP)):
        now = tick * _STEP
        counted = now >= 300
        fresh: list[tuple[int, float, float, int]] = []
        while position < len(queue) and begins[queue[position]] < now + _STEP:
            action = queue[position]
            position += 1
            model = wishes[action]
            fitting = np.flatnonzero(warm[:, model])
            fitting = fitting if len(fitting) else np.arange(count)
            some = fitting[random.integers(0, len(fitting), visits.choices)]
            where = int(some[np.argmin(load[some])])
            work = (machine.drag, 0.0, machine.picture)[kinds[action]]
            if not warm[where, model]:
                work += machine.load
                cold += counted
                if warm[where].sum() >= machine.models:
                    warm[where, np.argmin(np.where(warm[where], used[where], np.inf))] = False
                warm[where, model] = True
            used[where, model] = now
            done += counted
            load[where] += 1
            fresh.append((where, work, now + random.exponential(visits.pull), kinds[action]))
        if fresh:
            more = np.array(fresh)
            home = np.concatenate([home, more[:, 0].astype(int)])
            left, until, kind = (
                np.concatenate([old, more[:, column]]) for old, column in ((left, 1), (until, 2), (kind, 3))
            )
            since, got = np.concatenate([since, np.full(len(more), now)]), np.concatenate([got, np.zeros(len(more))])
        if not len(home):
            continue
        share = 1 / load[home]
        pulling = kind == 1
        # A pull takes no more than it can show; what it leaves is not given to others here.
        took = np.where(pulling, np.minimum(share, visits.wanted * machine.frame), share) * _STEP
        got += np.where(pulling, took / machine.frame, 0)
        left -= np.where(pulling, 0, took)
        if counted:
            frames += (took[pulling] / machine.frame).sum()
            busy += took.sum()
        over = np.where(pulling, until <= now + _STEP, left <= 0)
        if over.any():
            late = counted & (since[over] >= 300)
            spent = now + _STEP - since[over]
            drags += spent[late & (kind[over] == 0)].tolist()
            long = late & pulling[over] & (spent > 1)
            pulls += (got[over] / spent)[long].tolist()
            np.subtract.at(load, home[over], 1)
            home = home[~over]
            left, until, kind, since, got = (old[~over] for old in (left, until, kind, since, got))
    # What is not over has taken so long at least.
    waited = (kind == 0) & (since >= 300)
    drags += (seconds + 300 - since[waited]).tolist()
    at_once = (
        visits.busiest * visits.actions * (visits.think + visits.pulls * visits.pull + visits.drags * machine.drag)
    )
    return Outcome(
        drag=float(np.median(drags)) if drags else machine.drag,
        drag_slow=float(np.quantile(drags, 0.95)) if drags else machine.drag,
        pictures=float(np.median(pulls)) if pulls else visits.wanted,
        pictures_slow=float(np.quantile(pulls, 0.1)) if pulls else visits.wanted,
        busy=busy / (seconds * count),
        visitors=at_once,
        cold=cold / max(done, 1),
        frames=frames / seconds,
        requests=(1 - visits.pulls) * done / seconds,
    )


def _actions(visits: Visits, seconds: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """When actions begin, of which kind they are (0 drag, 1 pull, 2 picture), and of which model.

    A visitor's next action does not wait for the end of the one before: who thinks does not look at the clock.
    """
    # Those who came before are still there.
    before = visits.actions * visits.think * 4
    visitors = random.poisson(visits.busiest * (seconds + before))
    came = random.uniform(-before, seconds, visitors)
    counts = random.geometric(1 / visits.actions, visitors)
    pauses = random.exponential(visits.think + visits.pulls * visits.pull, counts.sum())
    owner = np.repeat(np.arange(visitors), counts)
    total = np.cumsum(pauses)
    first = np.concatenate([[0], np.cumsum(counts)[:-1]])
    begins = came[owner] + total - np.repeat(np.concatenate([[0], total])[first], counts)
    weights = 1 / np.arange(1, visits.models + 1)
    model = random.choice(visits.models, visitors, p=weights / weights.sum())[owner]
    kinds = random.choice(3, len(begins), p=[visits.drags, visits.pulls, 1 - visits.drags - visits.pulls])
    inside = (begins >= 0) & (begins < seconds)
    return begins[inside], kinds[inside], model[inside]
