"""What a person is told when something fails."""

from __future__ import annotations

import errno
import html
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr
import torch
from gradio.utils import get_upload_folder

from draggan.errors import ConfigError, DragGANError, LatentError
from draggan.sentences import presentable, sentence
from draggan.ui import messages

__all__ = ["Cancelled", "PageError", "SessionExpired", "explained", "explanation", "presented"]

log = logging.getLogger(__name__)

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


class Cancelled(DragGANError):
    """A person has cancelled a download, or a film."""


class SessionExpired(DragGANError):
    """A page was away for longer than its work is kept."""


class PageError(gr.Error):
    """An error whose message Gradio shows in a corner of the page.

    Args:
        text: the sentence as it is to be read. Gradio takes a message for HTML; names of files and tensors are not.

    Attributes:
        text: likewise.
    """

    def __init__(self, text: str, title: str) -> None:
        super().__init__(html.escape(text, quote=False), title=title, print_exception=False)
        self.text = text

    def said_already(self) -> None:
        """The status line has its sentence: nothing is said twice."""
        self.visible = False


def presented(message: str) -> str:
    """An error's message as the page shows it."""
    return sentence(presentable(message, get_upload_folder()))


def explanation(error: Exception) -> str:
    """What a person is told of an error, as a sentence."""
    try:
        with explained():
            raise error
    except PageError as said:
        return said.text


@contextmanager
def explained(hide: str = "", *, to_programs: bool = False) -> Iterator[None]:
    """Turn every error into a sentence for a person. Not to be held across a ``yield``.

    Args:
        hide: text to leave out of the message, such as the folder of an uploaded file.
        to_programs: the message is not shown by a page, and goes as it is.

    Raises:
        PageError: whatever was raised, in words for people.
    """
    try:
        yield
    except gr.Error:
        raise
    except DragGANError as e:
        message = presented(str(e).replace(hide, "") if hide else str(e))
        if to_programs:
            raise gr.Error(message, print_exception=False) from e
        wrong_value = isinstance(e, (ConfigError, LatentError))
        raise PageError(message, messages.WRONG_VALUE if wrong_value else messages.FAILED) from e
    except (MemoryError, torch.OutOfMemoryError) as e:
        log.exception("out of memory")
        raise PageError(messages.NO_MEMORY, "Out of memory") from e
    except OSError as e:
        if e.errno not in _FULL:
            log.exception("unexpected error in the page")
            raise PageError(messages.UNEXPECTED, "Unexpected error") from e
        raise PageError(messages.NO_ROOM, messages.FAILED) from e
    except Exception as e:
        log.exception("unexpected error in the page")
        raise PageError(messages.UNEXPECTED, "Unexpected error") from e
