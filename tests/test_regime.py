"""What kind of drag it is, and which rules follow: the table in docs/method.md."""

from __future__ import annotations

from dataclasses import replace

import pytest

from draggan.config import DragConfig
from draggan.drag import regime as regime_module
from draggan.drag.regime import CROWD, LEAST_NATURAL, LEAST_NATURAL_OF_TWO, RULES, Regime, freedom

ONE = Regime(handles=1, masked=False, blended=False, follows=True, second_order=True, live=False)
TWO, THREE = replace(ONE, handles=2), replace(ONE, handles=3)
HELD, HELD_SOFTLY = {"masked": True, "blended": True}, {"masked": True}
RULES_BY_REGIME = (
    "along_lines",
    "crowd",
    "looks_again",
    "holds",
    "restores",
    "lets_go",
    "minds_fading",
    "minds_stretching",
    "cuts_off",
    "by_hand",
)


@pytest.mark.parametrize(
    ("regime", "holds"),
    [
        (ONE, {"looks_again", "restores", "lets_go", "minds_fading"}),
        (TWO, {"looks_again", "restores", "lets_go", "cuts_off", "minds_fading", "minds_stretching"}),
        (THREE, {"along_lines"}),
        (replace(ONE, handles=CROWD), {"along_lines", "crowd"}),
        (replace(ONE, **HELD), {"looks_again", "restores", "lets_go"}),
        (replace(TWO, **HELD), {"looks_again", "restores", "lets_go"}),
        (replace(TWO, **HELD_SOFTLY), {"looks_again", "holds"}),
        (replace(THREE, **HELD), {"along_lines", "holds"}),
        (replace(ONE, live=True), {"looks_again", "restores", "by_hand"}),
        (replace(TWO, live=True), {"looks_again", "restores", "by_hand"}),
        (replace(THREE, live=True), {"along_lines", "by_hand"}),
        # The published tracker, the published optimiser, and that with content followed.
        (replace(ONE, follows=False), set()),
        (replace(ONE, follows=False, second_order=False, live=True), set()),
        (replace(THREE, second_order=False), {"looks_again"}),
        (replace(TWO, second_order=False), {"looks_again", "minds_stretching"}),
        (replace(TWO, second_order=False, live=True), {"looks_again"}),
    ],
)
def test_which_rules_hold(regime, holds):
    assert {rule for rule in RULES_BY_REGIME if getattr(regime, rule)} == holds


@pytest.mark.parametrize(
    ("regime", "way", "naturalness", "independence"),
    [
        (ONE, None, 1.0, 0.2),
        (ONE, 20.0, 1.0, 0.2),
        (ONE, 10.0, 0.4, 0.2),
        (ONE, 0.0, LEAST_NATURAL, 0.2),
        (TWO, 0.0, LEAST_NATURAL_OF_TWO, 0.2),
        (THREE, 0.0, RULES.many_naturalness, 1.0),
        (replace(ONE, **HELD), 0.0, LEAST_NATURAL, 0.2),
        (replace(ONE, **HELD_SOFTLY), 0.0, RULES.masked_naturalness, 1.0),
        (replace(THREE, **HELD), 0.0, RULES.masked_naturalness, 1.0),
        (replace(ONE, follows=False), 0.0, 1.0, 0.2),
    ],
)
def test_how_free_steps_are(regime, way, naturalness, independence):
    """At 128 px."""
    found = freedom(regime, DragConfig(), way, (128, 128))
    assert found == pytest.approx((naturalness, independence))
    less = freedom(regime, DragConfig(naturalness=0.5), way, (128, 128))
    assert less.naturalness == pytest.approx(naturalness / 2)


def test_a_pair_is_two_whatever_counts_as_few(monkeypatch):
    monkeypatch.setattr(regime_module, "FEW_HANDLES", 3)
    assert THREE.few
    assert not THREE.pair
    assert TWO.pair
