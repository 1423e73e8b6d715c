"""Before anything of ours is imported: shapes and types in signatures are checked at run time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

import tests.typing_hook  # noqa: F401

os.environ["GRADIO_ANALYTICS_ENABLED"] = "0"
# A busy machine is not a failure; and the same commit is to give the same verdict every time.
settings.register_profile("draggan", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("draggan")
# All but settings and recipes, which check their values themselves, with messages for people, and the page: Gradio does
# not recognise a wrapped generator function as one.
_PACKAGE = Path(__file__).parent.parent / "draggan"
_UNCHECKED = ("__init__", "__main__", "config", "recipe", "ui")
install_import_hook(
    [f"draggan.{path.stem}" for path in _PACKAGE.iterdir() if path.stem not in _UNCHECKED], "tests.typing_hook.check"
)

import torch  # noqa: E402

from draggan.generators.base import Generator  # noqa: E402
from draggan.generators.stylegan2 import StyleGAN2Generator  # noqa: E402
from draggan.generators.stylegan2.config import MappingConfig, StyleGAN2Config  # noqa: E402
from draggan.generators.stylegan3 import StyleGAN3Generator  # noqa: E402
from draggan.generators.stylegan3.config import StyleGAN3Config  # noqa: E402


def pytest_configure() -> None:
    # Small models on cores that do other things too: threads cost more than they bring.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test records anything in the record of exports of whoever runs it, nor uses their keys."""
    os.environ["DRAGGAN_STATE"] = str(tmp_path_factory.mktemp("state"))


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test reads or writes the cache of whoever runs it."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DRAGGAN_HOME", str(folder))
    return folder


def tiny_stylegan2(resolution: int = 32, *, c_dim: int = 0, square: bool = True, seed: int = 0) -> Generator:
    """A StyleGAN2 with random weights: everything of a real one but the pictures."""
    torch.manual_seed(seed)
    generator = StyleGAN2Generator(
        StyleGAN2Config(
            z_dim=16,
            c_dim=c_dim,
            w_dim=16,
            img_resolution=resolution,
            square=square,
            channel_base=16 * resolution,
            channel_max=32,
            mapping_kwargs=MappingConfig(num_layers=2, lr_multiplier=1.0),
        )
    )
    return generator.freeze()


def tiny_stylegan3() -> StyleGAN3Generator:
    torch.manual_seed(0)
    sizes = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32, "channel_base": 512, "channel_max": 16}
    return StyleGAN3Generator(StyleGAN3Config(**sizes, num_layers=6)).freeze()


@pytest.fixture(scope="session")
def tiny_generator() -> Generator:
    """32 px, square, no classes."""
    return tiny_stylegan2()
