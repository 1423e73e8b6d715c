"""What one installation keeps between its runs, and by which rules pictures leave it."""

from __future__ import annotations

import functools
import logging
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dnnlib.digests import sha256_of
from dnnlib.private_files import private_file
from draggan.checkpoints.catalogue import all_models
from draggan.errors import AuditError, ConfigError, ExportError
from draggan.moderation.check import Moderation, Policy
from draggan.moderation.moderators import load_moderators
from draggan.moderation.review import ReviewQueue
from draggan.moderation.verdict import Stage, Verdict
from draggan.provenance.audit import AuditLog, Export, Head, Recorded

__all__ = ["Deployment", "default", "state_folder"]

log = logging.getLogger(__name__)

_DAYS = 30.0  # for which details are kept


def state_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Where keys, the record of exports and the queue for review lie. Creates nothing.

    The first of these that is set: ``DRAGGAN_STATE``; ``DRAGGAN_HOME`` (then ``state`` inside it); ``XDG_STATE_HOME``;
    on Windows ``LOCALAPPDATA``; else ``~/.local/state``. Unlike the cache, nothing in it can be made again.
    """
    env = os.environ if environment is None else environment
    if env.get("DRAGGAN_STATE"):
        return Path(env["DRAGGAN_STATE"]).expanduser()
    if env.get("DRAGGAN_HOME"):
        return Path(env["DRAGGAN_HOME"]).expanduser() / "state"
    base = env.get("XDG_STATE_HOME")
    if not base and sys.platform == "win32":
        base = env.get("LOCALAPPDATA")
    return Path(base or "~/.local/state").expanduser() / "draggan"


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """One installation.

    Attributes:
        folder: where it keeps what must stay, for its owner only.
        public: whether others than this machine's own user can reach it. What cannot be recorded does not leave then.
        audit: the record of exports; None: there is none.
        moderation: what looks at pictures on their way in and out.
        queue: where pictures wait for a person.
    """

    folder: Path
    public: bool
    audit: AuditLog | None
    moderation: Moderation
    queue: ReviewQueue

    @classmethod
    def of(
        cls, *, public: bool = False, folder: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> Deployment:
        """As the environment says.

        ``DRAGGAN_AUDIT=off`` keeps no record (never on a public server); ``DRAGGAN_AUDIT_DAYS``: for how long details
        are kept (default 30). ``DRAGGAN_MODERATORS``: "auto" (default: a classifier, if one is installed), "none", or
        classes of your own, ``MODULE:CLASS,...``. ``DRAGGAN_UNMODERATED_EXPORTS=off``: without a moderator, nothing but
        drawings of the built-in models leaves.

        Args:
            public: whether others than this machine's own user can reach it.
            folder: None: `state_folder`.

        Raises:
            ConfigError: a value that is not allowed, or a moderator that cannot be loaded.
        """
        env = os.environ if environment is None else environment
        folder = folder or state_folder(env)
        audit = None
        if public or _is_on(env, "DRAGGAN_AUDIT"):
            audit = AuditLog(folder / "audit.sqlite", keep=_days(env) * 86400)

        def decided(item: str, decision: str, why: str) -> None:
            if audit is not None:
                audit.record_decision(item=item, decision=decision, why=why)

        def held_back(stage: Stage, verdict: Verdict, item: str) -> None:
            if audit is not None:
                audit.record_verdict(
                    stage=stage, decision=verdict.decision, code=verdict.code, moderator=verdict.moderator, item=item
                )

        queue = ReviewQueue(folder / "review", decided)
        exports = _is_on(env, "DRAGGAN_UNMODERATED_EXPORTS")
        moderation = Moderation(
            load_moderators(env.get("DRAGGAN_MODERATORS", "auto")),
            Policy.public(exports=exports) if public else Policy(exports=exports),
            queue,
            lambda: _built_in().keys(),
            held_back,
        )
        return cls(folder=folder, public=public, audit=audit, moderation=moderation, queue=queue)

    def private_file(self, name: str, make: Callable[[], bytes]) -> bytes:
        """What is in a file of ours; if there is none, what ``make`` gives is in it from now on.

        Raises:
            OSError: it can neither be read nor written.
        """
        return private_file(self.folder / name, make)

    def chain_head(self) -> str | None:
        """Head of the record, ``NUMBER:HASH``, for others to remember; None: nothing is recorded yet, or readable."""
        if self.audit is None:
            return None
        try:
            head = self.audit.head()
        except AuditError as error:
            log.warning("%s", error)
            return None
        return None if head is None else str(head)

    def recorded(self, sha256: str, watermark: str | None) -> Recorded | None:
        """What the record says of a file that somebody has; None: nothing.

        Args:
            sha256: of the file.
            watermark: number in its invisible mark, hexadecimal; None: not known.

        Raises:
            AuditError: the record cannot be read.
        """
        row = None if self.audit is None else self.audit.find_export(sha256=sha256, watermark=watermark)
        if row is None:
            return None
        return Recorded(
            minute=row.minute,
            kind=str(row.facts.get("kind")),
            model=_model_names().get(str(row.facts.get("model")), ""),
            same_file=row.facts.get("sha256") == sha256,
        )

    def remove_what_is_over(self) -> None:
        """Erase details, pictures that wait and decisions about them whose time is over. What cannot be erased is said
        in the log."""
        # Each by itself: where one cannot be emptied, the other still is.
        for remove in (self.queue.sweep, self._purge):
            try:
                remove()
            except (AuditError, OSError) as error:
                log.warning("%s", error)

    def _purge(self) -> None:
        if self.audit is not None:
            self.audit.purge(patience=1.0)

    def record_start(self) -> None:
        """Record that a page is served from now on.

        Raises:
            AuditError: that could not be written, and the page is public.
        """
        self._record(lambda audit: audit.record_start(public=self.public, moderator=self.moderation.name))

    def record_consent(self, text: str, visit: str) -> None:
        """Record that somebody has agreed; arguments as for `AuditLog.record_consent`.

        Raises:
            AuditError: that could not be written, and the page is public, so that it does not count.
        """
        self._record(lambda audit: audit.record_consent(text=text, visit=visit))

    def record_upload(self, *, what: str, sha256: str, verdict: str, visit: str) -> None:
        """Record that a file was uploaded and read; arguments as for `AuditLog.record_upload`.

        Raises:
            AuditError: that could not be written, and the page is public.
        """
        self._record(lambda audit: audit.record_upload(what=what, sha256=sha256, verdict=verdict, visit=visit))

    def record_export(self, export: Export) -> Head | None:
        """Record that a file leaves. Returns once that is on the disk.

        None: nothing is recorded here, or, on this machine only, it could not be, which a line in the log says.

        Raises:
            ExportError: it could not be recorded, and the page is public, so the file must not leave.
        """
        try:
            return self._record(lambda audit: audit.record_export(export))
        except AuditError as error:
            raise ExportError(f"nothing can be saved here at the moment: {error}") from error

    def _record(self, write: Callable[[AuditLog], Head]) -> Head | None:
        """Write a row. None: nothing is recorded here, or, on this machine only, it could not be."""
        if self.audit is None:
            return None
        try:
            return write(self.audit)
        except AuditError as error:
            log.warning("%s", error)
            if self.public:
                raise AuditError(
                    "the record of what leaves this page cannot be written; tell the person who runs it"
                ) from error
            return None


@functools.cache
def default() -> Deployment:
    """That of this process, as the environment says, for the command line and for programs."""
    return Deployment.of()


@functools.cache
def _built_in() -> Mapping[str, str]:
    """Names by SHA-256 of the models that come with the package: drawings, made by a renderer of our own."""
    return {sha256_of(entry.local): entry.name for entry in all_models() if entry.builtin and entry.local.is_file()}


def _model_names() -> Mapping[str, str]:
    """Names by SHA-256 of the listed models. What somebody has opened from a file has none here."""
    return {entry.sha256: entry.name for entry in all_models() if entry.sha256} | dict(_built_in())


def _is_on(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "").strip().lower() or "on"
    if value not in ("on", "off", "1", "0"):
        raise ConfigError(f"{name}={value!r} is not allowed; give on or off")
    return value in ("on", "1")


def _days(env: Mapping[str, str]) -> float:
    text = env.get("DRAGGAN_AUDIT_DAYS", "").strip() or str(_DAYS)
    try:
        days = float(text)
    except ValueError:
        days = -1.0
    if not 0 <= days <= 3650:
        raise ConfigError(f"DRAGGAN_AUDIT_DAYS={text!r} is not allowed; give a number of days from 0 to 3650")
    return days
