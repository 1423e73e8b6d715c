"""Settings as values: frozen dataclasses, the only home of a default. The page and the command line read them.

Lengths in pixels are given *at 512 px* where a field says so, and scale with the longer side of the picture
(`at_size`), as the paper scales its radii: "r1 = round(3/512 * size)".
"""

from __future__ import annotations

import math
import numbers
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, Literal, get_args, get_origin, get_type_hints

from draggan.errors import ConfigError, LatentError

__all__ = [
    "FEW_HANDLES",
    "LEAST_PIXELS",
    "MOST_TRUNCATION",
    "SEEDS",
    "SOLVER_NAMES",
    "Cluster",
    "DragConfig",
    "GaussNewtonRules",
    "InversionConfig",
    "Limits",
    "MaskHold",
    "Precision",
    "SolverName",
    "Space",
    "TrackerName",
    "at_size",
    "check_device",
    "check_seed",
    "check_space",
    "check_truncation",
    "choices",
    "describe",
    "parse_setting",
    "radii_at_size",
    "read_setting",
    "setting_names",
    "solver_name",
]

Space = Literal["w+", "w"]
MaskHold = Literal["exact", "soft"]
SolverName = Literal["adam", "gauss-newton"]
SOLVER_NAMES: tuple[SolverName, ...] = get_args(SolverName)
TrackerName = Literal["auto", "continuity", "template"]
SEEDS = 2**32
"""So many there are, from 0 on: what NumPy's generator takes."""
MOST_TRUNCATION = 1.5
FEW_HANDLES = 2
"""Handles more than these are many: they describe another picture, and are followed all at once."""
Precision = Literal["auto", "float32", "bfloat16", "float16"]


_DEVICE = re.compile(r"auto|cpu|mps|cuda(:[0-9]{1,4})?")


def _setting(
    default: Any,
    *,
    unit: str,
    source: str,
    help: str,
    low: float | None = None,
    high: float | None = None,
    only: SolverName | None = None,
) -> Any:
    """A dataclass field that knows its unit, its source, what is allowed, and which solver alone has it."""
    facts = {"unit": unit, "source": source, "help": help, "low": low, "high": high, "only": only}
    return field(default=default, metadata=facts)


def at_size(length: float, image_size: tuple[int, int]) -> float:
    """A length given at 512 px, in pixels of a picture of this size."""
    return length * max(image_size) / 512


LEAST_PIXELS = {"r1": 2, "r2": 3, "stop_distance": 1}
"""What counts of these lengths however small the picture is, in its pixels."""


def radii_at_size(config: DragConfig, image_size: tuple[int, int]) -> tuple[int, int]:
    """Of Omega_1 and Omega_2 (r1, r2), in whole pixels of a picture of this size.

    Scaled alone they would shrink to nothing below 512 px, while a feature cell stays four pixels wide.
    """
    r1, r2 = (max(round(at_size(getattr(config, name), image_size)), LEAST_PIXELS[name]) for name in ("r1", "r2"))
    return r1, r2


def describe(config: type, name: str) -> dict[str, Any]:
    """Default, unit, source, help, low, high and only of one setting, for controls and options made from it."""
    for f in fields(config):
        if f.name == name:
            return {"default": f.default, **f.metadata}
    raise KeyError(name)


def solver_name(name: str) -> SolverName:
    """The solver of that name. "newton" and "gauss_newton" stand for "gauss-newton", which was called so before.

    Raises:
        ConfigError: there is none.
    """
    for known in SOLVER_NAMES:
        if name == known:
            return known
    if name in ("newton", "gauss_newton"):
        return "gauss-newton"
    raise _no_choice("solver", name, SOLVER_NAMES)


def check_seed(seed: Any) -> None:
    """Refuse what cannot be the seed of a picture.

    Raises:
        LatentError: it is no whole number that NumPy's generator takes.
    """
    if isinstance(seed, bool) or not isinstance(seed, numbers.Integral) or not 0 <= int(seed) < SEEDS:
        raise LatentError(f"seed {seed!r:.80} is not allowed; give a whole number from 0 to {SEEDS - 1}")


def check_truncation(truncation: Any, name: str = "truncation") -> float:
    """Psi: 0 is the average picture, 1 leaves a latent as it is.

    Raises:
        ConfigError: it is no number from 0 to `MOST_TRUNCATION`.
    """
    psi = _as_float(truncation)
    if psi is None or not 0 <= psi <= MOST_TRUNCATION:
        shown = f"{truncation:g}" if isinstance(truncation, float) else repr(truncation)
        raise ConfigError(f"{name} {shown:.80} is not allowed; give a number from 0 to {MOST_TRUNCATION}")
    return psi


def check_device(name: str) -> str:
    """The name of a device, which this machine need not have (`draggan.device.choose_device`).

    Raises:
        ConfigError: no device is called so.
    """
    if not _DEVICE.fullmatch(name):
        raise ConfigError(f"there is no device '{name:.80}'; give auto, cpu, cuda, cuda:N or mps")
    return name


def check_space(space: object) -> Space:
    """The latent space of that name.

    Raises:
        ConfigError: there is none.
    """
    for known in get_args(Space):
        if isinstance(space, str) and space == known:
            return known  # type: ignore[no-any-return]
    raise _no_choice("space", space, get_args(Space))


@cache
def choices(config: Any) -> Mapping[str, tuple[str, ...]]:
    """The words that a setting may be, of those settings that are a choice of words."""
    hints = get_type_hints(config)
    return {f.name: get_args(hints[f.name]) for f in fields(config) if get_origin(hints[f.name]) is Literal}


def setting_names() -> tuple[str, ...]:
    """The settings of a drag; the latent space, which every edit has beside them, is none."""
    return tuple(f.name for f in fields(DragConfig) if f.name != "space")


def read_setting(name: str, value: Any) -> Any:
    """A value in the type of a setting of drags; JavaScript knows no whole numbers. `DragConfig` checks its range.

    Raises:
        ConfigError: there is no such setting, or the value is of another kind.
    """
    if name not in setting_names():
        raise ConfigError(f"there is no setting '{name:.80}'; there are {', '.join(sorted(setting_names()))}")
    facts = describe(DragConfig, name)
    default = facts["default"]
    if isinstance(default, (int, float)):
        number = _as_float(value)
        if number is None:
            raise ConfigError(f"{name} = {value!r:.80} is not allowed; give {_range(facts)}")
        return int(number) if isinstance(default, int) and number.is_integer() else number
    if (value is None and default is None) or (isinstance(value, str) and len(value) <= 80):
        return value
    raise ConfigError(f"{name} = {value!r:.80} is not allowed; give a name")


def parse_setting(name: str, text: str) -> Any:
    """The same from text, such as a command line's."""
    if name in setting_names() and isinstance(describe(DragConfig, name)["default"], (int, float)):
        try:
            return read_setting(name, float(text))
        except ValueError:
            allowed = _range(describe(DragConfig, name))
            raise ConfigError(f"{name} = {text!r:.80} is not allowed; give {allowed}") from None
    return read_setting(name, text)


def _as_float(value: Any) -> float | None:
    """A number as Python's; None: it is none, or too large."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _no_choice(name: str, value: object, allowed: Sequence[str]) -> ConfigError:
    *others, last = (f"'{word}'" for word in allowed)
    return ConfigError(f"{name} {value!r:.80} is not allowed; choose {', '.join(others)} or {last}")


def _check_choices(config: object) -> None:
    """`ConfigError` for the first setting that is none of its words."""
    kind: Any = type(config)
    for name, words in choices(kind).items():
        if getattr(config, name) not in words:
            raise _no_choice(name, getattr(config, name), words)


def _range(facts: Mapping[str, Any]) -> str:
    """What a number may be, of what `describe` says."""
    number = f"a {'whole ' if isinstance(facts['default'], int) else ''}number from {facts['low']:g}"
    return number + (" on" if facts["high"] is None else f" to {facts['high']:g}")


def _check_ranges(config: Any) -> None:
    """`ConfigError` for the first setting outside its range."""
    for f in fields(config):
        low, high, value = f.metadata["low"], f.metadata["high"], getattr(config, f.name)
        if low is None:
            continue
        allowed = _range(describe(type(config), f.name))
        good = isinstance(value, numbers.Integral if isinstance(f.default, int) else numbers.Real)
        if isinstance(value, bool) or not good or not math.isfinite(value):
            raise ConfigError(f"{f.name} = {value!r} is not allowed; give {allowed}")
        if value < low or (high is not None and value > high):
            raise ConfigError(f"{f.name} = {value!r} is not allowed; give {allowed}")


@dataclass(frozen=True, kw_only=True)
class DragConfig:
    """How a drag runs. Where the paper and its published code differ, ``source`` says whose value is taken.

    Raises:
        ConfigError: a value is outside its range; the message says which and what is allowed.
    """

    solver: SolverName = _setting(
        "adam",
        unit="",
        source="paper: adam; gauss-newton is ours",
        help="adam: the published optimiser, a pixel a step; gauss-newton: solves for the step that reaches the target",
    )
    tracker: TrackerName = _setting(
        "auto",
        unit="",
        source="paper: template; continuity is ours (docs/method.md, section 2)",
        help="continuity: follows the content from picture to picture, and says where it is lost; template: the "
        "published one, the nearest place that resembles the start most; auto: continuity with gauss-newton. Steps of "
        "eight handles or more go by the nearest place there too, and content is followed at the end",
    )
    naturalness: float = _setting(
        1.0,
        unit="",
        source="ours: with 0.25 fewer pulls of the built-in models truly arrive (benchmarks/truth.md)",
        low=0.0,
        high=1.0,
        only="gauss-newton",
        help="0 changes the picture locally; 1 keeps it most like the model's other pictures, and leads one handle "
        "along those that the model draws itself; for a short way, up to an eighth of the width, part of it is enough",
    )
    row_independence: float = _setting(
        0.2,
        unit="",
        source="ours: with 1 fewer pulls of the built-in models truly arrive (benchmarks/truth.md)",
        low=0.0,
        high=1.0,
        only="gauss-newton",
        help="how far the rows of W+ may part: 1 as they like, 0 not at all, which is W",
    )
    max_departure: float = _setting(
        0.25,
        unit="distances between two random pictures of the model",
        source="ours: beyond it, in one metric for all latents, hardly a pull of the built-in models truly arrives "
        "(benchmarks/truth.md)",
        low=0.01,
        high=100.0,
        help="with continuity, the drag stops before the latent has gone farther than this (with a mask twice, "
        "with two handles 1.4 times, with more, or along the model's own pictures, four times as far) from where it "
        "began, and a drag that goes on from where another has ended has at least half of that left; 100: it goes on "
        "regardless",
    )
    trust_radius: float = _setting(
        16.0,
        unit="px at 512 px",
        source="ours",
        low=1.0,
        high=512.0,
        only="gauss-newton",
        help="how far one step may move a handle; it is shortened where the picture does not follow",
    )
    space: Space = _setting(
        "w+",
        unit="",
        source="paper",
        help="w+: every free row of the latent moves on its own; w: all free rows move together",
    )
    free_rows: int = _setting(
        6,
        unit="rows",
        source="paper",
        low=1,
        help="how many of the first latent rows may change; the rest keep the appearance",
    )
    step_size: float = _setting(
        2e-3,
        unit="latent units per step",
        source="paper (faces, cats and cars; 1e-3 for other models, which published code uses for all)",
        low=1e-6,
        high=1.0,
        only="adam",
        help="learning rate",
    )
    r1: float = _setting(
        3.0,
        unit="px at 512 px",
        source="paper",
        low=0.0,
        high=64.0,
        help="radius of the patch around a handle that is pulled; never below 2 px of the picture; with gauss-newton "
        "and continuity only for three handles or more",
    )
    r2: float = _setting(
        12.0,
        unit="px at 512 px",
        source="paper",
        low=1.0,
        high=128.0,
        help="half side of the square in which a handle is looked for; never below 3 px of the picture; only with the "
        "published tracker (template), and with eight handles or more: by continuity content is always looked for "
        "within 12 px at 512 px",
    )
    mask_weight: float = _setting(
        20.0,
        unit="",
        source="paper and published code; tied to means, as in published code",
        low=0.0,
        high=1e4,
        help="how strongly the latent is asked to leave everything outside the mask as it is (lambda)",
    )
    mask_hold: MaskHold = _setting(
        "exact",
        unit="",
        source="ours; the paper and published code are soft",
        help="exact: outside the mask the picture stays as it is, to the last bit; soft: as nearly as the loss manages",
    )
    mask_windows: int = _setting(
        0,
        unit="windows per step",
        source="ours; the paper and published code are exact",
        low=0,
        high=4096,
        only="adam",
        help="0: hold the fixed region exactly; more: estimate its change from so many random windows, faster",
    )
    stop_distance: float = _setting(
        1.0,
        unit="px at 512 px",
        source="paper, whose figures the tables compare; published code takes 2 px for any number of points",
        low=0.1,
        high=64.0,
        help="a handle this close to its target has arrived; double for more than five points, never below 1 px or a "
        "quarter of a feature cell",
    )
    max_steps: int = _setting(
        300,
        unit="steps",
        source="paper's evaluation (published code has no limit)",
        low=1,
        high=10000,
        help="the drag ends after this many steps",
    )
    stall_steps: int = _setting(
        60,
        unit="steps",
        source="ours",
        low=2,
        high=10000,
        help="the drag ends when this many steps (gauss-newton: a tenth of them; one or two handles far from their "
        "targets: a thirtieth) brought the handles no nearer",
    )
    stall_progress: float = _setting(
        1.0,
        unit="px at 512 px",
        source="ours",
        low=0.0,
        high=64.0,
        help="less than this, summed over the handles, does not count as progress (gauss-newton, one or two handles "
        "far from their targets: less than five times this)",
    )
    precision: Precision = _setting(
        "auto",
        unit="",
        source="ours; published code uses float16 on GPUs and float32 on processors",
        help="type of the features; auto: float32. bfloat16 is sooner on some processors, later on others",
    )
    level: str | None = _setting(
        None,
        unit="",
        source="paper: the 128 px map of a 512 px model",
        help="feature level to drag on; none given: a quarter of the picture's size, 32 to 128 cells",
    )

    @property
    def follows(self) -> bool:
        """Whether handles are tracked by continuity."""
        return self.tracker == "continuity" or (self.tracker == "auto" and self.solver == "gauss-newton")

    def __post_init__(self) -> None:
        object.__setattr__(self, "solver", solver_name(self.solver))
        _check_choices(self)
        _check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class GaussNewtonRules:
    """The rules of Gauss-Newton steps (`draggan.drag.solvers.gauss_newton`), measured on the built-in models.

    They are not settings of a drag: people choose `DragConfig.naturalness` and `DragConfig.trust_radius`.
    """

    aim: float = _setting(
        0.5,
        unit="share of the stop distance",
        source="ours",
        help="how far from its target a handle is sent, unless it is sent all the way (`Problem.near`): going further "
        "changes more for nothing",
    )
    min_damping: float = _setting(
        1e-3,
        unit="share of the diagonal of J S S^T J^T",
        source="ours",
        help="the first and least damping (Levenberg, Marquardt)",
    )
    max_initial_damping: float = _setting(
        0.1,
        unit="share of the diagonal of J S S^T J^T",
        source="ours",
        help="no step begins with more, which would get nowhere",
    )
    damping_increase: float = _setting(8.0, unit="factor", source="ours", help="after an attempt that failed")
    damping_decrease: float = _setting(0.25, unit="factor", source="ours", help="after a step that kept its promise")
    accept_ratio: float = _setting(
        0.1,
        unit="share of what the linear model promised",
        source="ours",
        help="a step that brings the handles nearer by this much is kept",
    )
    expand_ratio: float = _setting(
        0.7,
        unit="share of what the linear model promised",
        source="ours",
        help="after a step that brings them nearer by this much the trust radius grows",
    )
    shrink: float = _setting(
        0.25,
        unit="factor",
        source="ours",
        help="what an attempt that failed is shortened to; no step begins with a radius below this share of the stop "
        "distance, which would get nowhere",
    )
    widen: float = _setting(4.0, unit="factor", source="ours", help="after a step that kept its promise")
    widen_followed: float = _setting(
        2.0,
        unit="factor",
        source="ours: as near as with 4, as truly, in a tenth less time",
        help="likewise with one or two handles that are followed and no soft mask: a step that has been shortened so "
        "that content is not lost can seldom be four times as long the next time",
    )
    max_backtracks: int = _setting(
        3, unit="attempts", source="ours", help="how often a step is shortened before the drag is stuck"
    )
    min_step: float = _setting(
        0.05, unit="image pixels", source="ours", help="a step that moves the handles by less is none"
    )
    min_refused_step: float = _setting(
        1.0,
        unit="px at 512 px",
        source="ours",
        help="a step that is not taken because nothing true could be said after it is shortened no further: to creep "
        "up to the edge costs many steps and wins a pixel",
    )
    min_lost_step: float = _setting(
        5.0,
        unit="px at 512 px",
        source="ours",
        help="likewise where content would be lost and nobody leads the drag by hand: one that ends there goes back to "
        "where its place was certain",
    )
    least_promise: float = _setting(
        0.15,
        unit="share of what is asked for",
        source="ours: of two handles that pull against each other, steps that promise less took half of the time",
        help="a step that is cut off where the latent may go no farther, or shortened after one that was refused, is "
        "tried with two handles if it promises at least this much",
    )
    max_uphill_steps: int = _setting(
        2,
        unit="steps a drag",
        source="ours",
        help="when even the shortest attempt is no good, so often the first is taken all the same: the best latent is "
        "remembered, and beyond a ridge where two positions match a handle equally well the way is often open",
    )
    last_bit: float = _setting(
        24.0,
        unit="px at 512 px",
        source="ours",
        help="nearer than this to its targets a drag of few handles needs less naturalness, and the rows of the latent "
        "may part as they like; farther away that brings more of them there, but melts pictures and makes claims false",
    )
    homing: float = _setting(
        0.5,
        unit="share of what the drag has changed so far",
        source="ours",
        help="what each step takes back where the handles do not need it",
    )
    restored_from: float = _setting(
        15.0,
        unit="px at 512 px",
        source="ours",
        help="where what is under one or two handles has changed by more, taken for a displacement, steps make up for "
        "it besides; not with a mask that holds softly, with which as many arrive without that, in less time",
    )
    match_tolerance: float = _setting(
        0.1,
        unit="share of the best match's distance",
        source="ours",
        help="how much worse than the best a match nearer to where a handle was expected may be",
    )
    masked_naturalness: float = _setting(
        0.15,
        unit="share of the naturalness",
        source="ours",
        help="how much of it counts with a mask that holds softly, or with many handles and a mask, and all rows are "
        "independent: more local steps leave more to make up with. On the cat, steps as natural as without a mask "
        "change a quarter more outside; with less than this latents go farther, and nothing is gained",
    )
    beyond: float = _setting(
        0.3,
        unit="standard deviations of the model's latents a unit",
        source="ours",
        help="how far a step away from the model's own pictures goes that counts as much as one of one standard "
        "deviation of the noise along them",
    )
    many_naturalness: float = _setting(
        0.25,
        unit="share of the naturalness",
        source="ours: five landmarks of pairs of pictures come nearer than with all of it",
        help="how much of it counts with more than two handles, whose rows are all independent",
    )
    max_mask_steps: int = _setting(
        4,
        unit="steps",
        source="ours",
        help="with a mask, how many make up for what has changed outside once the handles have arrived, at most",
    )
    mask_progress: float = _setting(
        0.9,
        unit="share of the change outside",
        source="ours",
        help="a step of those that leaves more than this of it is the last",
    )
    stall_share: float = _setting(
        0.1,
        unit="share of DragConfig.stall_steps",
        source="ours",
        help="a Gauss-Newton step does the work of about ten of Adam's, so fewer show that there is no progress",
    )
    creeping_share: float = _setting(
        1 / 3,
        unit="share of those steps",
        source="ours: a twelfth of the time of long pulls, which end 0.3 % of the width earlier for it",
        help="so few of them are enough where one or two handles that are followed without a soft mask are farther "
        "from their targets than last_bit and hardly get nearer",
    )
    creeping: float = _setting(
        5.0,
        unit="times DragConfig.stall_progress",
        source="ours, likewise",
        help="less than this is no progress there",
    )


@dataclass(frozen=True, kw_only=True)
class InversionConfig:
    """How a photo is brought to a latent code and tuned weights (`draggan.inversion`).

    Raises:
        ConfigError: a value is outside its range.
    """

    coarse_steps: int = _setting(
        50, unit="steps", source="ours", low=0, high=5000, help="how many for the latent code, on a picture of 64 px"
    )
    steps: int = _setting(
        26,
        unit="steps",
        source="ours",
        low=0,
        high=5000,
        help="how many for the latent code after that, on a picture of 256 px",
    )
    row_steps: int = _setting(
        0,
        unit="steps",
        source="ours",
        low=0,
        high=5000,
        help="how many after that with every row of the latent code on its own (W+); 0: all stay alike (W)",
    )
    rate: float = _setting(
        0.1, unit="spreads of the latents a step", source="ours", low=1e-4, high=10.0, help="step size of the latent"
    )
    unusual_weight: float = _setting(
        1e-3,
        unit="",
        source="ours",
        low=0.0,
        high=10.0,
        help="what a latent far from those that the model draws costs: drags need a usual one",
    )
    tuning_steps: int = _setting(
        80,
        unit="steps",
        source="ours; 350 in the published code of pivotal tuning",
        low=0,
        high=5000,
        help="how many for the weights, around the latent that was found (Roich et al., 2021); 0: they stay the same",
    )
    full_size_steps: int = _setting(
        20,
        unit="steps",
        source="ours",
        low=0,
        high=5000,
        help="how many for the weights after that on the whole picture, where it is larger than 256 px",
    )
    tuning_rate: float = _setting(
        4e-3, unit="", source="ours; 3e-4 in the published code", low=1e-6, high=1.0, help="step size of the weights"
    )
    locality_weight: float = _setting(
        0.1,
        unit="",
        source="ours; Roich et al. (2021), equation 4",
        low=0.0,
        high=100.0,
        help="how much it costs that tuned weights change other pictures near this one",
    )
    lpips_weight: float = _setting(
        1.0,
        unit="",
        source="Roich et al. (2021), section 3, beside the pixels",
        low=0.0,
        high=100.0,
        help="how much LPIPS counts beside pixels and pyramid, where its weights are given",
    )

    def __post_init__(self) -> None:
        _check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What visitors may ask for. The defaults are for the machine's own user; `public` for a server.

    One visitor is one address; where only this machine comes, one tab.

    Raises:
        ConfigError: a value is outside its range.
    """

    drags: int = _setting(
        64, unit="drags", source="ours", low=1, high=1024, help="drags of one visitor that may be under way at once"
    )
    points: int = _setting(500, unit="points", source="ours", low=1, high=500, help="points of one drag")
    samples: int = _setting(
        2_000_000,
        unit="feature vectors per step",
        source="ours: 500 points with r1 64, r2 128 at 128 px are 2.5 million, and took 275 s and 3.5 GB for two steps",
        low=1000,
        high=10**9,
        help="what all patches and search windows of one drag have in them together",
    )
    steps: int = _setting(10000, unit="steps", source="ours", low=1, high=10000, help="steps of one drag")
    seconds: float = _setting(
        86400.0, unit="s", source="ours", low=1.0, high=1e6, help="computing time of one drag; then it is stopped"
    )
    unwatched: float = _setting(
        300.0,
        unit="s",
        source="ours",
        low=0.1,
        high=1e6,
        help="a drag whose updates nobody has taken for so long is stopped",
    )
    silence: float = _setting(
        20.0,
        unit="s",
        source="ours",
        low=0.1,
        high=1e6,
        help="a live drag whose pointer has said nothing for so long settles where it is",
    )

    all_drags: int = _setting(
        1024, unit="drags", source="ours", low=1, high=4096, help="drags of all visitors that may be under way at once"
    )
    calls_per_minute: int = _setting(
        1_000_000, unit="calls", source="ours", low=1, high=10**9, help="requests of one visitor, a quarter at once"
    )
    all_calls_per_minute: int = _setting(
        1_000_000, unit="calls", source="ours", low=1, high=10**9, help="requests of all visitors, a quarter at once"
    )
    places: int = _setting(
        256, unit="calls", source="ours", low=1, high=1024, help="requests of one visitor that may wait for an answer"
    )
    call_bytes: int = _setting(
        64_000_000,
        unit="bytes",
        source="ours: a mask of 1024 x 1024 pixels as a data URL is 6 MB at most",
        low=1000,
        high=10**9,
        help="of one request that is no upload",
    )
    tabs: int = _setting(
        1000, unit="tabs", source="ours", low=1, high=100_000, help="tabs of one visitor that may show the page"
    )
    all_tabs: int = _setting(
        10_000, unit="tabs", source="ours", low=1, high=100_000, help="tabs of all visitors that may show the page"
    )
    uploads: int = _setting(
        1000, unit="files", source="ours", low=1, high=100_000, help="uploaded files of one visitor that are kept"
    )
    upload_bytes: int = _setting(
        2_000_000_000, unit="bytes", source="ours", low=1000, high=10**12, help="of one uploaded file"
    )
    visitor_bytes: int = _setting(
        100_000_000_000, unit="bytes", source="ours", low=1000, high=10**13, help="of all uploaded files of one visitor"
    )
    all_bytes: int = _setting(
        1_000_000_000_000, unit="bytes", source="ours", low=1000, high=10**13, help="of all uploaded files"
    )
    kept: float = _setting(
        25200.0,
        unit="s",
        source="ours: an hour more than the work in a tab is kept",
        low=1.0,
        high=1e7,
        help="an uploaded file that nobody has used for so long goes",
    )

    def __post_init__(self) -> None:
        _check_ranges(self)

    @classmethod
    def public(cls) -> Limits:
        """Safe for a server that anybody can reach."""
        return cls(
            drags=4,
            all_drags=64,
            points=50,
            samples=200_000,
            steps=1000,
            seconds=120.0,
            unwatched=20.0,
            calls_per_minute=240,
            all_calls_per_minute=6000,
            places=24,
            call_bytes=8_000_000,
            tabs=16,
            all_tabs=512,
            uploads=8,
            upload_bytes=500_000_000,
            visitor_bytes=1_500_000_000,
            all_bytes=8_000_000_000,
        )


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Machines that compute together (`draggan.engine.ray`).

    Raises:
        ConfigError: a value is outside its range, or the replicas are fewer at most than at least.
    """

    address: str = _setting(
        "", unit="", source="ours", help="of a Ray cluster, or 'auto' for this machine's; empty: one is started here"
    )
    least: int = _setting(1, unit="replicas", source="ours", low=1, high=10_000, help="replicas that are always there")
    most: int = _setting(
        1, unit="replicas", source="ours", low=1, high=10_000, help="replicas while many requests wait"
    )
    cpus: float = _setting(
        1.0,
        unit="cores",
        source="ours: two replicas of a core each take more steps a second than one of two (benchmarks/ray.md)",
        low=0.01,
        high=1024.0,
        help="cores that a replica has",
    )
    gpus: float = _setting(
        0.0, unit="GPUs", source="ours", low=0.0, high=8.0, help="of which a replica has so many, or a share of one"
    )

    def __post_init__(self) -> None:
        _check_ranges(self)
        if self.most < self.least:
            raise ConfigError(f"at most {self.most} replicas and at least {self.least} are not possible together")

    @property
    def device(self) -> str:
        """Where a replica computes."""
        return "cuda" if self.gpus else "cpu"
