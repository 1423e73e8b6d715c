"""From a file of any known format to a description: the way in for everybody who has a path.

A file that holds a pickle is read once, in a child process with limits (`sandbox`), and kept converted
(`conversion_cache`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from dnnlib.cache import cache_dir
from draggan.checkpoints.conversion_cache import NoRoom, can_hold, read_converted
from draggan.checkpoints.description import CheckpointDescription, Role
from draggan.checkpoints.detect import expect_pickle
from draggan.checkpoints.formats import safetensors
from draggan.errors import CheckpointError

__all__ = ["read_checkpoint"]

log = logging.getLogger(__name__)


def read_checkpoint(
    path: str | os.PathLike[str],
    roles: Collection[Role] | None = None,
    *,
    cache: str | os.PathLike[str] | None = None,
) -> CheckpointDescription:
    """Read a checkpoint of any format we know.

    Args:
        roles: read only these networks, those that the file has; None for all.
        cache: where conversions are kept; None for ``cache_dir("converted")``.

    Returns:
        The networks; ``format`` and ``metadata`` are those of the original file.

    Raises:
        UnsafeCheckpoint: the file asks for something that only a program would ask for. Nothing of it was run.
        CheckpointError: it is missing, damaged, or of a kind that cannot be read.
    """
    path = Path(path)
    with _no_os_errors(path):
        if not path.is_file():
            raise CheckpointError(f"{path} is not a file")
        if safetensors.is_safetensors(path):
            return safetensors.read(path, roles)
        with open(path, "rb") as f:
            expect_pickle(path, f.read(64))
        folder = Path(cache) if cache is not None else cache_dir("converted")
        try:
            if can_hold(folder):
                return read_converted(path, folder, roles)
            log.warning("%s cannot be written to; %s will be converted anew each time", folder, path)
        except NoRoom as error:
            log.warning("%s; it will be converted anew each time", error)
        return _read_by_way_of_temporary(path, roles)


def _read_by_way_of_temporary(path: Path, roles: Collection[Role] | None) -> CheckpointDescription:
    try:
        with tempfile.TemporaryDirectory(prefix="draggan-") as temporary:
            return read_converted(path, Path(temporary), roles)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be opened here: there is no folder to convert it in, neither for good nor for a moment "
            f"({error.strerror or error}); make room on the disk"
        ) from error


@contextlib.contextmanager
def _no_os_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
