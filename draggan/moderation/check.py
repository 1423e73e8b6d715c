"""The one entry point of moderation. Whatever goes wrong in it, nothing passes."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TypeAlias, TypeGuard

import numpy as np
from jaxtyping import UInt8

from draggan.errors import DragGANError, ModerationError
from draggan.images import over_white
from draggan.moderation.review import ReviewQueue
from draggan.moderation.verdict import Moderator, Stage, Subject, Verdict
from draggan.reel import Frames, chosen

__all__ = ["Moderation", "Policy"]

log = logging.getLogger(__name__)

_FRAMES = 8  # of an animation that are looked at
_AT_ONCE = 4  # checks; the next one waits

Picture: TypeAlias = UInt8[np.ndarray, "height width channels"]


@dataclass(frozen=True, kw_only=True)
class Policy:
    """What happens where no moderator looks at a picture.

    Attributes:
        photos: whether photographs may be uploaded all the same.
        exports: whether pictures may be saved all the same.
        seconds: how long a moderator may take.
    """

    photos: bool = True
    exports: bool = True
    seconds: float = 10.0

    @classmethod
    def public(cls, *, exports: bool = True) -> Policy:
        """For a server: no photographs without a moderator."""
        return cls(photos=False, exports=exports)


class Moderation:
    """Asks the moderators.

    Args:
        moderators: each has to allow a picture; none: the policy says what passes.
        policy: without a moderator.
        queue: where pictures wait for a person; None: what would have to wait is refused.
        drawings: SHA-256 of models that draw nothing anybody could mind, whose pictures are not looked at.
        held_back: hears of everything that was not allowed, with its number in the queue, or an empty text.
    """

    def __init__(
        self,
        moderators: Sequence[Moderator] = (),
        policy: Policy | None = None,
        queue: ReviewQueue | None = None,
        drawings: Callable[[], Collection[str]] = frozenset,
        held_back: Callable[[Stage, Verdict, str], None] = lambda stage, verdict, item: None,
    ) -> None:
        self.moderators = tuple(moderators)
        self.policy, self.queue = policy or Policy(), queue
        self._drawings, self._held_back = drawings, held_back
        self._places = threading.BoundedSemaphore(_AT_ONCE)

    @property
    def name(self) -> str:
        """Of those who look, for the record."""
        return " ".join(moderator.name for moderator in self.moderators)[:40] or "none"

    @property
    def takes_photos(self) -> bool:
        """Whether photographs can be uploaded at all."""
        return bool(self.moderators) or self.policy.photos

    def check_upload(self, frames: Picture | Frames[Picture]) -> Verdict:
        """Whether an uploaded photograph, or film of so many frames, may be used.

        Raises:
            ModerationError: it may not, or not yet.
        """
        return self._check("upload", frames, photo=True, unseen=self.policy.photos)

    def check_export(
        self,
        frames: Picture | Frames[Picture],
        *,
        model_sha256: str = "",
        photo: bool = False,
    ) -> Verdict:
        """Whether a picture, or the frames of an animation, may be saved.

        Args:
            model_sha256: of the model that has drawn it, where that is known.
            photo: whether a photograph is in it.

        Raises:
            ModerationError: it may not, or not yet.
        """
        drawing = self._is_drawing(model_sha256, photo)
        if drawing and self.moderators:
            return Verdict(decision="allow", code="drawing")
        return self._check("export", frames, photo=photo, unseen=drawing or self.policy.exports)

    def _is_drawing(self, model_sha256: str, photo: bool) -> bool:
        return not photo and bool(model_sha256) and model_sha256 in self._drawings()

    def _check(self, stage: Stage, frames: Picture | Frames[Picture], *, photo: bool, unseen: bool) -> Verdict:
        """What the moderators say together; ``unseen``: whether it passes where there is none."""
        if unseen and not self.moderators:
            return Verdict(decision="allow", code="not moderated")
        subject = _subject(stage, [frames] if isinstance(frames, np.ndarray) else frames, photo)
        if not self.moderators:
            return self._answer(subject, Verdict(decision="refuse", code="no moderator"))
        verdict = Verdict(decision="allow", moderator=self.name)
        for moderator in self.moderators:
            said = self._ask(moderator, subject)
            if said.decision == "refuse":
                return self._answer(subject, said)
            if said.decision == "review" and verdict.decision == "allow":
                verdict = said
        return self._answer(subject, verdict)

    def _ask(self, moderator: Moderator, subject: Subject) -> Verdict:
        """What a moderator says; a refusal where it says nothing of use, or nothing in time."""
        answers: SimpleQueue[object] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(moderator.check(subject))
            except Exception:  # a classifier is somebody else's code, and may raise anything
                log.exception("moderator '%s' failed", moderator.name)
                answers.put(None)
            finally:
                self._places.release()

        if not self._places.acquire(timeout=self.policy.seconds):
            return Verdict(decision="refuse", code="moderator busy", moderator=moderator.name)
        try:
            # A thread of its own, which keeps nobody from leaving: one that hangs holds its place and no more.
            threading.Thread(target=ask, name="moderation", daemon=True).start()
        except RuntimeError:
            self._places.release()
            return Verdict(decision="refuse", code="moderator error", moderator=moderator.name)
        try:
            said = answers.get(timeout=self.policy.seconds)
        except Empty:
            log.error("moderator '%s' took longer than %g s", moderator.name, self.policy.seconds)
            return Verdict(decision="refuse", code="moderator timeout", moderator=moderator.name)
        return (
            said if _is_verdict(said) else Verdict(decision="refuse", code="moderator error", moderator=moderator.name)
        )

    def _answer(self, subject: Subject, verdict: Verdict) -> Verdict:
        """The verdict, if it lets the picture pass.

        Raises:
            ModerationError: it does not.
        """
        if verdict.decision == "allow":
            return verdict
        item = ""
        if verdict.decision == "review":
            verdict, item = self._to_a_person(subject, verdict)
            if verdict.decision == "allow":
                return verdict
        try:
            self._held_back(subject.stage, verdict, item)
        except DragGANError:
            log.exception("what was held back could not be recorded")
        raise ModerationError(_sentence(subject.stage, verdict, item))

    def _to_a_person(self, subject: Subject, verdict: Verdict) -> tuple[Verdict, str]:
        """What a person has said about these pictures; or the same verdict, and the number under which they wait."""
        if self.queue is None:
            return Verdict(decision="refuse", code="nobody to ask", moderator=verdict.moderator), ""
        try:
            decided = self.queue.decision_of(subject)
            if decided is not None:
                code = "approved by a person" if decided == "allow" else "refused by a person"
                return Verdict(decision=decided, code=code, moderator=verdict.moderator, score=verdict.score), ""
            return verdict, self.queue.add(subject, verdict)
        except (DragGANError, OSError, ValueError):
            log.exception("a picture could not be put into the queue for a person")
            return Verdict(decision="refuse", code="queue error", moderator=verdict.moderator), ""


def _is_verdict(said: object) -> TypeGuard[Verdict]:
    if not isinstance(said, Verdict) or said.decision not in ("allow", "review", "refuse"):
        return False
    return said.score is None or (isinstance(said.score, (int, float)) and math.isfinite(said.score))


def _subject(stage: Stage, pictures: Frames[Picture], photo: bool) -> Subject:
    """Of many frames some, among them the first and the last."""
    shown = set(np.linspace(0, len(pictures) - 1, min(len(pictures), _FRAMES)).round().astype(int).tolist())
    looked_at = [over_white(picture) for picture in chosen(pictures, shown)]
    return Subject(stage=stage, pictures=looked_at, photo=photo)


def _sentence(stage: Stage, verdict: Verdict, item: str) -> str:
    """What the person is told. Not what the classifier has found, nor how sure it is."""
    what = "this photo cannot be used here" if stage == "upload" else "this picture cannot be saved here"
    if verdict.decision == "review":
        what += " yet: a person has to look at it first"
        return f"{what}. Try again later; its number is {item}" if item else what
    if verdict.code == "no moderator":
        return f"{what}: nobody checks pictures on this server, so it takes none"
    if verdict.code in ("moderator timeout", "moderator busy", "moderator error", "queue error"):
        return f"{what} at the moment: the check of pictures does not answer. Try again later"
    if verdict.code == "refused by a person":
        return f"{what}: a person has looked at it and refused it"
    return f"{what}: it looks like something that is not allowed. RESPONSIBLE_USE.md says what is"
