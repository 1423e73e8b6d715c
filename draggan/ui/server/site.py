"""Where and how a page is served: who can reach it, what they may have, and where their files lie."""

from __future__ import annotations

import asyncio
import inspect
import logging
import secrets
import threading
from collections.abc import Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from draggan.config import Limits
from draggan.provenance.consent import Consents
from draggan.provenance.deployment import Deployment
from draggan.ui import messages
from draggan.ui.server.exposure import Exposure
from draggan.ui.server.guard import Guard
from draggan.ui.server.session_states import SessionStates
from draggan.ui.server.uploads import Uploads

__all__ = ["Site"]

log = logging.getLogger(__name__)

_REMOVE_EVERY = 3600.0  # seconds


class Site:
    """What a page and the gate before it share.

    Args:
        exposure: who can reach the page.
        limits: what they may have; None: as suits the exposure.
        folder: where the files of this run lie; None: one that goes with this object.
        unused: how long a file that models were read from has not been used, seconds.
        tools: whether language models are answered too (`draggan.service.tools`).
        deployment: what is recorded and checked; None: as suits the exposure and the environment.

    Attributes:
        consents: who has agreed to what.
    """

    def __init__(
        self,
        exposure: Exposure | None = None,
        limits: Limits | None = None,
        folder: Path | None = None,
        unused: Callable[[Path], float] = lambda path: 0.0,
        *,
        tools: bool = False,
        deployment: Deployment | None = None,
    ) -> None:
        self.exposure = exposure or Exposure()
        self.limits = limits or (Limits.public() if self.exposure.public else Limits())
        self.tools = tools
        self.service: Any = None  # what answers programs beside the page: an ASGI application
        self.warm = threading.Event()  # the first model is loaded and has drawn
        self.deployment = deployment or Deployment.of(public=self.exposure.public)
        self.consents = Consents(self._consent_key, self.deployment.record_consent)
        self._own = None if folder else TemporaryDirectory(prefix="draggan-")
        place = folder or Path(self._own.name if self._own else "")
        # Within Gradio's own folder for files, where there is one: no second copy is made then.
        self.saved = (place / "gradio" if folder else place) / "saved"
        self.saved.mkdir(parents=True, exist_ok=True)
        kept = place / "models"
        self.uploads = Uploads(Path(get_upload_folder()), kept, self.limits, unused=unused)
        self._removals: list[Callable[[], object]] = [self.deployment.remove_what_is_over, self.uploads.sweep]

    def why_not_ready(self) -> str:
        """Why it cannot draw at once yet, as a sentence; empty: it can."""
        return "" if self.warm.is_set() else "The first model is being prepared; ask again in a few seconds."

    def _consent_key(self) -> bytes:
        return self.deployment.private_file("consent.key", lambda: secrets.token_bytes(32))

    def _why_no_upload(self, visitor: str) -> str:
        return "" if self.consents.has_agreed(visitor) else messages.AGREE_FIRST

    def also_remove(self, remove: Callable[[], object]) -> None:
        """Something else that deletes what may not be kept for longer."""
        self._removals.append(remove)

    def remove_what_is_over(self) -> None:
        """Delete what may not be kept for longer."""
        for remove in self._removals:
            try:
                remove()
            except Exception:  # the next time may be better
                log.exception("what is over could not be removed")

    async def _keep_removing(self) -> None:
        """At once and every hour, whether or not anybody comes."""
        while True:
            await asyncio.to_thread(self.remove_what_is_over)
            await asyncio.sleep(_REMOVE_EVERY)

    def launch_options(self, **others: Any) -> dict[str, Any]:
        """What ``launch`` needs so that every request passes the gate.

        Args:
            others: options to go with these; what the installed Gradio does not know is left out.
        """

        @asynccontextmanager
        async def lifespan(app: Any) -> Any:
            guard = Guard(
                app.middleware_stack,
                exposure=self.exposure,
                limits=self.limits,
                uploads=self.uploads,
                endpoints=_endpoints(app.get_blocks().fns),
                service=self.service,
                why_no_upload=self._why_no_upload,
            )
            # Around everything that Gradio has put around its own answers, such as headers for other origins.
            app.middleware_stack = guard
            app.state_holder = SessionStates()
            app.state_holder.set_blocks(app.get_blocks())
            service = self.service
            removing = asyncio.create_task(self._keep_removing())
            try:
                async with nullcontext() if service is None else service.router.lifespan_context(service):
                    yield
            finally:
                removing.cancel()
                with suppress(asyncio.CancelledError):
                    await removing

        options = others | {
            "app_kwargs": {"lifespan": lifespan},
            "max_file_size": self.limits.upload_bytes,
            # Twice as many as can be open: those of tabs that were closed a moment ago, and calls of programs.
            "state_session_capacity": min(2 * self.limits.all_tabs, 10_000),
            # The server has started by then. Gradio would ask for the page once more, and take a machine that is too
            # busy to answer within three seconds for one that cannot be reached.
            "_frontend": False,
        }
        known = inspect.signature(gr.Blocks.launch).parameters
        return {name: value for name, value in options.items() if name in known}


def _endpoints(functions: dict[int, Any]) -> dict[str | int, tuple[int, ...]]:
    """How many values each endpoint takes: all, or all but those that the server keeps itself."""
    counts: dict[str | int, tuple[int, ...]] = {}
    for number, function in functions.items():
        given = [block for block in function.inputs if not block.skip_api]
        counts[number] = counts[str(function.api_name)] = (len(function.inputs), len(given))
    return counts
