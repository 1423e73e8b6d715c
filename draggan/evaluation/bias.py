"""Whom a model draws, and how well it draws and drags each group: the bias sheet.

*Whom.* Attributes are read from many pictures (`draggan.evaluation.attributes`) and put into groups; how many are in
each is compared with a reference, by total variation and by a chi-square test. For a built-in model the reference is
what its scene would draw: renderings of random parameters, read in the same way, so that what the reading gets wrong is
wrong on both sides. For any other it is what the user says, or has pictures of.

*How well.* Of the same pictures, and of drags in them, by group: PSNR to the picture that was asked for, where that is
known, and how many drags bring the content to its target, judged by a network that knows nothing of the drag. Fairness
is given in the words and by the formulas of AIF360 (Bellamy et al., "AI Fairness 360", 2018, arXiv:1810.01943):
statistical parity difference and disparate impact. They are a line each, so the package itself, which needs pandas,
scikit-learn and matplotlib, is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from draggan.config import DragConfig
from draggan.errors import ConfigError
from draggan.evaluation.attributes import READABLE, AttributeReader, SceneReader
from draggan.evaluation.protocols import Cycle, Pulls
from draggan.evaluation.similarity import psnr
from draggan.evaluation.statistics import (
    Interval,
    bootstrap,
    chi_square_alike,
    chi_square_fit,
    disparate_impact,
    share,
    total_variation,
    variation_by_chance,
)
from draggan.evaluation.subject import Subject
from draggan.images import over_white
from draggan.pixels import to_uint8
from draggan.scenes import Scene

__all__ = ["Distribution", "Figures", "Reference", "Sheet", "audit", "contact_sheet"]

FIFTHS = ("lowest fifth", "second", "middle", "fourth", "highest fifth")
_MOST_GROUPS = 40
_FOUR_FIFTHS = 0.8
_LEVEL = 0.05
_SHOWN = 64  # pictures of a contact sheet

Values = Mapping[str, Sequence[float] | Sequence[str] | Float[np.ndarray, "picture"]]
Reference = Mapping[str, Mapping[str, float]]
"""What is expected, by attribute: the share of every group, by its word."""


@dataclass(frozen=True, kw_only=True)
class Distribution:
    """How many pictures are in each group of an attribute, against a reference.

    Attributes:
        name: of the attribute.
        truncation: of the pictures.
        groups: words, or the fifths of the reference's numbers.
        shares: of the pictures, by group.
        reference: shares that were expected.
        total_variation: half the sum of the differences, 0 to 1: how many pictures would have to be in another group.
        by_chance: which that has by chance alone, at most, 19 times in 20.
        chi_square, freedom, p_value: of Pearson's test that both have the same distribution.
        quality: how well the attribute can be read, R² on renderings; None: not known.
        on_model: likewise in the model's own pictures at truncation 1; None: not known.
    """

    name: str
    truncation: float
    groups: tuple[str, ...]
    shares: tuple[float, ...]
    reference: tuple[float, ...]
    total_variation: float
    by_chance: float
    chi_square: float
    freedom: int
    p_value: float
    quality: float | None = None
    on_model: float | None = None


@dataclass(frozen=True, kw_only=True)
class Figures:
    """How well pictures of each group of an attribute are drawn and dragged.

    Attributes:
        name: of the attribute.
        groups: as in `Distribution`.
        psnr: of every group, dB; None: the right picture is not known.
        success: share of drags whose content is at its target.
        parity: statistical parity difference: of every group, its success minus that of all others.
        impact: disparate impact: the lowest group's success over the highest's; nan where no drag succeeds.
        p_value: of a chi-square test that success does not depend on the group.
    """

    name: str
    groups: tuple[str, ...]
    psnr: tuple[Interval, ...] | None
    success: tuple[Interval, ...]
    parity: tuple[float, ...]
    impact: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """A bias sheet.

    Attributes:
        model: its name.
        truncations: of the pictures that were counted. Figures are of truncation 1 where a scene knows the truth.
        pictures, drags: how many; of pictures, at every truncation.
        against: what the reference is, in words.
        judged: by what drags are judged, in words.
        distributions: of every attribute that could be read.
        figures: likewise.
        unread: attributes that cannot be read, and their R² on renderings.
        misread: attributes that can be read from renderings and not from the model's own pictures, and their R² there:
            it draws them otherwise than it was asked to, or in a way that misleads the reading.
    """

    model: str
    truncations: tuple[float, ...]
    pictures: int
    drags: int
    against: str
    judged: str
    distributions: tuple[Distribution, ...]
    figures: tuple[Figures, ...]
    unread: Mapping[str, float] = field(default_factory=dict)
    misread: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; what is not known is null."""

        def plain(value: Any) -> Any:
            if isinstance(value, float):
                return value if math.isfinite(value) else None
            if isinstance(value, Interval):
                return plain({"mean": value.mean, "low": value.low, "high": value.high, "count": value.count})
            if isinstance(value, Mapping):
                return {name: plain(one) for name, one in value.items()}
            if isinstance(value, (tuple, list)):
                return [plain(one) for one in value]
            if isinstance(value, (Distribution, Figures)):
                return plain(vars(value))
            return value

        return plain(vars(self))

    def markdown(self, groups: Sequence[str] = ()) -> str:
        """As tables.

        Args:
            groups: attributes whose figures are shown group by group; of the others, the lowest and the highest.
        """
        parts = []
        for truncation in self.truncations:
            counted = [one for one in self.distributions if one.truncation == truncation]
            parts.append(
                f"{self.pictures} pictures of `{self.model}` at truncation {truncation:g}, against {self.against}."
            )
            parts.append(_distribution_table(counted))
        for why, some in (
            ("Not read well enough from renderings to be counted (R² below a half)", self.unread),
            (
                "Read from renderings and not from the model's own pictures (R² below a half), which are softer or not "
                "as asked, and so not counted either",
                self.misread,
            ),
        ):
            if some:
                parts.append(f"{why}: {', '.join(f'{name} ({quality:.2f})' for name, quality in some.items())}.")
        parts.append(self._figure_sentence())
        known = {figures.name: figures for figures in self.figures}
        parts += [_group_table(known[name]) for name in groups if name in known]
        parts.append(self._figure_table())
        return "\n\n".join(parts) + "\n"

    def _figure_sentence(self) -> str:
        text = (
            f"{self.drags} drags, random pulls of 5 to 33 % of the width, many of which ask for more than a model can; "
            f"judged {self.judged}. "
        )
        worst = min(self.figures, key=lambda one: one.p_value, default=None)
        if worst is None:
            return text
        strict = _strict([one.p_value for one in self.figures])
        sure = [one.name for one, is_sure in zip(self.figures, strict, strict=True) if is_sure]
        if sure:
            return text + f"Success depends on {', '.join(sure)} (chi-square, Holm's correction, 5 %)."
        return text + (
            "Success depends on no attribute that was looked at (chi-square, Holm's correction, 5 %); the smallest p "
            f"of {len(self.figures)} is {_p(worst.p_value)} ({worst.name})."
        )

    def _figure_table(self) -> str:
        has_psnr = any(one.psnr for one in self.figures)
        head = ["attribute", *(["PSNR by group, dB"] * has_psnr), "success by group, %", "disparate impact", "p"]
        lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for one in self.figures:
            cells = [one.name]
            if has_psnr:
                cells.append(" / ".join(_number(value, 1) for value in one.psnr or ()))
            cells += [
                " / ".join(_number(value, 0, 100) for value in one.success),
                "–" if math.isnan(one.impact) else f"{one.impact:.2f}",
                _p(one.p_value),
            ]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines)


def audit(
    subject: Subject,
    config: DragConfig,
    reader: AttributeReader | None = None,
    *,
    truncations: Sequence[float] = (),
    samples: int = 1000,
    drags: int = 120,
    renderings: int = 2500,
    first_seed: int = 0,
    reference: Values | Reference | None = None,
    progress: Callable[[str, int, int], None] = lambda what, done, count: None,
) -> tuple[Sheet, list[UInt8[np.ndarray, "height width 3"]]]:
    """Make the bias sheet of a model; also returns its first pictures, for a contact sheet.

    Args:
        subject: at truncation 1 where it has a scene.
        config: of the drags.
        reader: reads attributes from pictures; None: the parameters of the model's own scene.
        renderings: from which the reading of a scene's parameters is learnt; the reference has 1000 others.
        truncations: of the pictures that are counted; empty: the subject's alone.
        reference: values of the attributes in other pictures, or the shares of their groups that are expected; None: of
            a scene, its renderings; else every word is expected equally often.
        progress: is told what is done, how much of it, and of how much.

    Raises:
        ConfigError: the reader or the reference does not fit.
    """
    scene_reader: SceneReader | None = None
    if reader is None:
        reader = scene_reader = _scene_reader(subject, renderings, progress)
    truncations = tuple(dict.fromkeys(truncations)) or (subject.truncation,)
    values: dict[float, dict[str, np.ndarray]] = {}
    shown: list[np.ndarray] = []
    for truncation in truncations:
        pictures = _drawn(replace(subject, truncation=truncation), first_seed, samples, progress)
        values[truncation] = _checked(reader(np.stack(pictures)), samples)
        shown = shown or pictures[:_SHOWN]
    reference, against = _reference(reference, scene_reader)
    together = {name: np.concatenate([found[name] for found in values.values()]) for name in values[truncations[0]]}
    grouped = {name: _Grouping.of(name, found, (reference or {}).get(name)) for name, found in together.items()}
    on_model = {} if scene_reader is None else _on_model(subject, scene_reader, first_seed, min(samples, 400))
    misread = {name: quality for name, quality in on_model.items() if quality < READABLE}
    distributions = [
        group.distribution(
            values[truncation][name],
            truncation=truncation,
            quality=None if scene_reader is None else scene_reader.quality[name],
            on_model=on_model.get(name),
        )
        for truncation in truncations
        for name, group in grouped.items()
        if name not in misread
    ]
    figures, judged = _figures(subject, config, reader, grouped, first_seed, samples, drags, progress)
    unread = {}
    if scene_reader is not None:
        unread = {n: q for n, q in scene_reader.quality.items() if n not in scene_reader.names}
    sheet = Sheet(
        model=subject.name,
        truncations=truncations,
        pictures=samples,
        drags=drags,
        against=against,
        judged=judged,
        distributions=tuple(sorted(distributions, key=lambda one: -one.total_variation)),
        figures=tuple(figures),
        unread=unread,
        misread=misread,
    )
    return sheet, shown


def _drawn(
    subject: Subject, first_seed: int, samples: int, progress: Callable[[str, int, int], None]
) -> list[UInt8[np.ndarray, "height width 3"]]:
    """Its pictures, one after the other."""
    pictures = []
    for i in range(samples):
        pictures.append(_pixels(subject, first_seed + i))
        progress("pictures", i + 1, samples)
    return pictures


def _reference(
    given: Values | Reference | None, scene_reader: SceneReader | None
) -> tuple[Values | Reference | None, str]:
    """What pictures are compared with, and how people are told of it."""
    if given is not None:
        return given, "the reference that was given"
    if scene_reader is None:
        return None, "equal shares of every group"
    held = scene_reader.held[0]
    count = len(next(iter(held.values())))
    return held, f"{count} renderings of the scene `{scene_reader.scene.name}`, read in the same way"


def contact_sheet(
    pictures: Sequence[UInt8[np.ndarray, "height width 3"]], columns: int = 8
) -> UInt8[np.ndarray, "sheet_height sheet_width 3"]:
    """Pictures beside and below each other, in their order."""
    columns = min(columns, len(pictures))
    rows = [pictures[i : i + columns] for i in range(0, len(pictures), columns)]
    blank = np.full_like(pictures[0], 255)
    return np.concatenate([np.concatenate([*row, *[blank] * (columns - len(row))], 1) for row in rows])


# ---- groups --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Grouping:
    """How values of an attribute become groups, and how many are expected in each.

    Attributes:
        edges: between groups of numbers; None: the values are words.
        counts: of the reference's pictures; None: its shares are stated.
    """

    name: str
    groups: tuple[str, ...]
    edges: Float[np.ndarray, "edge"] | None
    expected: Float[np.ndarray, "group"]
    counts: Int[np.ndarray, "group"] | None

    @classmethod
    def of(cls, name: str, values: np.ndarray, reference: Any) -> _Grouping:
        """Groups of these values against a reference: other values, shares by word, or None for equal shares.

        Raises:
            ConfigError: numbers without other numbers to compare with, or words that are not expected.
        """
        if values.dtype.kind in "fiu":
            if reference is None or isinstance(reference, Mapping):
                raise ConfigError(
                    f"'{name}' is a number, which needs pictures to be compared with; give --reference FOLDER, or let "
                    "the function return words"
                )
            other = np.asarray(reference, np.float64)
            edges = np.quantile(other, [0.2, 0.4, 0.6, 0.8])
            counts = np.bincount(np.searchsorted(edges, other, side="right"), minlength=5)
            return cls(name=name, groups=FIFTHS, edges=edges, expected=counts / counts.sum(), counts=counts)
        seen = {str(word) for word in values}
        if isinstance(reference, Mapping):
            groups = tuple(str(word) for word in reference)
            shares = np.array([float(value) for value in reference.values()])
            if not seen <= set(groups) or not (shares >= 0).all() or not shares.sum() > 0:
                raise ConfigError(
                    f"the reference for '{name}' has to name a share of every group: {', '.join(sorted(seen))}"
                )
            return cls(name=name, groups=groups, edges=None, expected=shares / shares.sum(), counts=None)
        other_words = [] if reference is None else [str(word) for word in reference]
        groups = tuple(sorted(seen | set(other_words)))
        if len(groups) > _MOST_GROUPS:
            raise ConfigError(f"'{name}' has {len(groups)} groups; at most {_MOST_GROUPS} can be compared")
        if reference is None:
            return cls(
                name=name, groups=groups, edges=None, expected=np.full(len(groups), 1 / len(groups)), counts=None
            )
        counts = np.array([other_words.count(word) for word in groups])
        return cls(name=name, groups=groups, edges=None, expected=counts / counts.sum(), counts=counts)

    def __call__(self, values: np.ndarray) -> Int[np.ndarray, "picture"]:
        """The group of each value; -1: none of those that are known."""
        if self.edges is not None:
            return np.searchsorted(self.edges, np.asarray(values, np.float64), side="right")
        numbers = {word: i for i, word in enumerate(self.groups)}
        return np.array([numbers.get(str(word), -1) for word in values], dtype=np.int64)

    def distribution(
        self, values: np.ndarray, *, truncation: float, quality: float | None, on_model: float | None
    ) -> Distribution:
        """Of these values, against what is expected."""
        counts = np.bincount(self(values), minlength=len(self.groups))
        shares = counts / counts.sum()
        if self.counts is None:
            statistic, freedom, p = chi_square_fit(counts, self.expected)
        else:
            statistic, freedom, p = chi_square_alike(counts, self.counts)
        others = None if self.counts is None else int(self.counts.sum())
        return Distribution(
            name=self.name,
            truncation=truncation,
            groups=self.groups,
            shares=tuple(shares.tolist()),
            reference=tuple(self.expected.tolist()),
            total_variation=total_variation(shares, self.expected),
            by_chance=variation_by_chance(self.expected, int(counts.sum()), others),
            chi_square=statistic,
            freedom=freedom,
            p_value=p,
            quality=quality,
            on_model=on_model,
        )


def _checked(values: object, count: int) -> dict[str, np.ndarray]:
    """What a reader has returned, as arrays.

    Raises:
        ConfigError: it is something else.
    """
    if not isinstance(values, Mapping) or not values:
        raise ConfigError("the function that reads attributes has to return a dictionary of names and values")
    found = {}
    for name, some in values.items():
        array = np.asarray(some)
        if array.shape != (count,) or array.dtype.kind not in "fiuUb":
            raise ConfigError(f"'{name!s:.40}' has to be a number or a word of each of the {count} pictures")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ConfigError(f"'{name!s:.40}' has to be a finite number of each picture")
        found[str(name)] = array.astype(str) if array.dtype.kind == "b" else array
    return found


# ---- pictures and drags --------------------------------------------------------------------------------------------


def _scene_reader(subject: Subject, renderings: int, progress: Callable[[str, int, int], None]) -> SceneReader:
    if not isinstance(subject.scene, Scene) or subject.finder is None or subject.size[0] != subject.size[1]:
        raise ConfigError(
            f"what is in the pictures of '{subject.name}' is known to nobody here; give --attributes MODULE:FUNCTION, "
            "a function that takes pictures, uint8 [picture, height, width, 3], and returns their attributes by name"
        )
    return SceneReader(
        subject.scene,
        subject.finder,
        subject.size[0],
        count=renderings,
        held=min(1000, renderings),
        progress=lambda done, count: progress("renderings", done, count),
    )


def _pixels(subject: Subject, seed: int) -> UInt8[np.ndarray, "height width 3"]:
    return over_white(to_uint8(subject.picture(subject.latent(subject.noise(seed)))))


def _on_model(subject: Subject, reader: SceneReader, first_seed: int, count: int) -> dict[str, float]:
    """How well attributes are read in the model's own pictures: squared correlation with what it was asked to draw."""
    if subject.exact is None:
        return {}
    pictures = np.stack([_pixels(subject, first_seed + i) for i in range(count)])
    noise = torch.cat([subject.noise(first_seed + i) for i in range(count)]).numpy()
    read, true = reader(pictures), reader.known(noise)
    return {name: reader.explained(name, true[name], read[name]) for name in read}


def _figures(
    subject: Subject,
    config: DragConfig,
    reader: AttributeReader,
    grouped: Mapping[str, _Grouping],
    first_seed: int,
    samples: int,
    drags: int,
    progress: Callable[[str, int, int], None],
) -> tuple[list[Figures], str]:
    """Of every attribute, and by what drags were judged."""
    exact = subject.exact is not None and subject.finder is not None
    protocol = Pulls(first_seed=first_seed) if exact else Cycle(first_seed=first_seed)
    judged = (
        "by the landmark network: content within 3.5 % of the width of its target"
        if exact
        else "without a truth: said to have arrived, and confirmed by two of three witnesses (`cycle`)"
    )
    seeds, success = [], []
    for i in range(drags):
        case = protocol.case(subject, config, i)
        progress("drags", i + 1, drags)
        if case.figures:
            seeds.append(case.seed)
            value = case.figures.get("truly" if exact else "confirmed")
            success.append(bool(value))
    drawn = _psnr(subject, first_seed, min(samples, 400)) if subject.exact is not None else None
    figures = []
    of_drags = _attributes_of(subject, reader, seeds, grouped)
    of_pictures = {}
    if drawn is not None:
        of_pictures = _attributes_of(subject, reader, [first_seed + i for i in range(len(drawn))], grouped)
    for name, group in _known_groups(reader, grouped).items():
        of = group(of_drags[name])
        per_group = [[float(s) for s, g in zip(success, of, strict=True) if g == k] for k in range(len(group.groups))]
        hits = np.array([int(sum(one)) for one in per_group])
        counts = np.array([len(one) for one in per_group])
        _, _, p = chi_square_alike(hits, counts - hits)
        figures.append(
            Figures(
                name=name,
                groups=group.groups,
                psnr=None
                if drawn is None
                else tuple(bootstrap(drawn[group(of_pictures[name]) == k].tolist()) for k in range(len(group.groups))),
                success=tuple(share(one) for one in per_group),
                parity=tuple(_parity(hits, counts, k) for k in range(len(counts))),
                impact=disparate_impact(hits, counts),
                p_value=p,
            )
        )
    return figures, judged


def _known_groups(reader: AttributeReader, grouped: Mapping[str, _Grouping]) -> dict[str, _Grouping]:
    """Groups for figures: of a scene, fifths of the true parameters, which are known there."""
    if not isinstance(reader, SceneReader):
        return dict(grouped)
    return {name: _Grouping.of(name, values, values) for name, values in reader.held[1].items()}


def _attributes_of(
    subject: Subject, reader: AttributeReader, seeds: Sequence[int], names: Iterable[str]
) -> dict[str, np.ndarray]:
    """Of pictures that are dragged or measured: what was asked for where that is known, else what is read."""
    if not len(seeds):
        return {name: np.empty(0) for name in names}
    if isinstance(reader, SceneReader):
        return dict(reader.known(torch.cat([subject.noise(seed) for seed in seeds]).numpy()))
    return _checked(reader(np.stack([_pixels(subject, seed) for seed in seeds])), len(seeds))


def _psnr(subject: Subject, first_seed: int, count: int) -> Float[np.ndarray, "picture"]:
    """Of pictures to what was asked for."""
    assert subject.exact is not None
    values = []
    for i in range(count):
        z = subject.noise(first_seed + i)
        rendering = subject.exact.render(subject.exact.parameters(z.numpy()), subject.size[0])
        right = torch.from_numpy(np.asarray(rendering.pictures)).float() / 127.5 - 1
        values.append(psnr(subject.picture(subject.latent(z)).cpu(), right))
    return np.array(values)


def _parity(hits: Int[np.ndarray, "group"], counts: Int[np.ndarray, "group"], group: int) -> float:
    """Statistical parity difference: the success of a group minus that of all others; nan: one of them is empty."""
    others = counts.sum() - counts[group]
    if not counts[group] or not others:
        return math.nan
    return float(hits[group] / counts[group] - (hits.sum() - hits[group]) / others)


# ---- words ---------------------------------------------------------------------------------------------------------


def _distribution_table(distributions: Sequence[Distribution]) -> str:
    head = "| attribute | R² | shares of the groups, % | total variation | by chance | chi-square | p |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for one, sure in zip(distributions, _strict([one.p_value for one in distributions]), strict=True):
        # Fifths need no names; words do.
        shares = " / ".join(f"{100 * value:.0f}" for value in one.shares)
        if one.groups != FIFTHS:
            shares = ", ".join(
                f"{name} {100 * value:.0f} ({100 * expected:.0f})"
                for name, value, expected in zip(one.groups, one.shares, one.reference, strict=True)
            )
        qualities = [f"{value:.2f}" for value in (one.quality, one.on_model) if value is not None]
        cells = [
            one.name,
            ", ".join(qualities) or "–",
            shares,
            f"{'**' * sure}{one.total_variation:.3f}{'**' * sure}",
            f"{one.by_chance:.3f}",
            f"{one.chi_square:.1f} ({one.freedom})",
            _p(one.p_value),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _group_table(one: Figures) -> str:
    lines = [
        f"By {one.name}:",
        "",
        "| group | PSNR, dB | drags | success, % | statistical parity difference |",
        "|---|---|---|---|---|",
    ]
    for k, group in enumerate(one.groups):
        success = one.success[k]
        drawn = "–" if one.psnr is None else _ends(one.psnr[k], 1)
        difference = "–" if math.isnan(one.parity[k]) else f"{100 * one.parity[k]:+.0f} points"
        lines.append(f"| {group} | {drawn} | {success.count} | {_ends(success, 0, 100)} | {difference} |")
    if not math.isnan(one.impact):
        side = "at least" if one.impact >= _FOUR_FIFTHS else "below"
        chance = "; that success depends on the group is not shown" if not one.p_value <= _LEVEL else ""
        lines += ["", f"Disparate impact {one.impact:.2f}, {side} 0.8 (p {_p(one.p_value)}{chance})."]
    return "\n".join(lines)


def _number(value: Interval, digits: int, factor: float = 1.0) -> str:
    return f"{factor * value.mean:.{digits}f}" if value.count else "–"


def _ends(value: Interval, digits: int, factor: float = 1.0) -> str:
    if not value.count:
        return "–"
    mean, low, high = (f"{factor * x:.{digits}f}" for x in (value.mean, value.low, value.high))
    return f"{mean} [{low}, {high}]"


def _p(value: float) -> str:
    return "–" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def _strict(p_values: Sequence[float], level: float = _LEVEL) -> list[bool]:
    """Which of many tests are significant at a level for all of them together (Holm, 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: math.inf if math.isnan(p_values[i]) else p_values[i])
    sure = [False] * len(p_values)
    for rank, i in enumerate(order):
        if not p_values[i] <= level / (len(p_values) - rank):
            break
        sure[i] = True
    return sure
