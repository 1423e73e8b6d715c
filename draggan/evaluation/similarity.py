"""How alike two pictures are, how sharp one is, and which pixel of one corresponds to which of another.

No trained network is used: the perceptual distance here is structural similarity of gradients, not LPIPS.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.geometry import Grid, sample

__all__ = ["correspondences", "gradient_distance", "mean_square", "ms_ssim", "psnr", "sharpness"]

# Wang, Simoncelli and Bovik, "Multi-scale structural similarity for image quality assessment" (2003): weights of the
# scales, fine to coarse; window of 11 px, sigma 1.5; constants for a range of 1.
SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03

Picture = Float[Tensor, "1 channel height width"]


def mean_square(a: Picture, b: Picture) -> float:
    """Mean squared error of values in [-1, 1]."""
    return float((a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean())


def psnr(a: Picture, b: Picture) -> float:
    """Peak signal-to-noise ratio in dB; 100 at most, for pictures that are the same."""
    return float(10 * torch.log10(4 / (a.clamp(-1, 1) - b.clamp(-1, 1)).square().mean().clamp_min(4e-10)))


def ms_ssim(a: Picture, b: Picture) -> float:
    """Multi-scale structural similarity of values in [-1, 1], 1 for the same picture.

    As published, except for small pictures: only scales that hold a whole window are taken (4 of 5 at 128 px) and their
    weights made to sum to one; the window shrinks in pictures of less than 11 px.
    """
    return _multi_scale((a.clamp(-1, 1) + 1) / 2, (b.clamp(-1, 1) + 1) / 2)


def gradient_distance(a: Picture, b: Picture) -> float:
    """The perceptual distance of the evaluation: 1 - multi-scale structural similarity of the gradients' magnitudes.

    Outlines that have moved or are gone count; a change of brightness or of colour hardly does. 0 for the same
    picture.
    """
    return 1 - _multi_scale(_gradient(a), _gradient(b))


def sharpness(picture: Picture) -> float:
    """Mean squared difference of neighbouring pixels of the brightness: twice the blur, less of it."""
    grey = picture.clamp(-1, 1).mean(1)
    return float((grey.diff(dim=-1).square().mean() + grey.diff(dim=-2).square().mean()) / 2)


def _gradient(picture: Picture) -> Float[Tensor, "1 1 height width"]:
    """Magnitude of the brightness' gradient, central differences, scaled to [0, 1]."""
    grey = F.pad((picture.clamp(-1, 1).mean(1, keepdim=True) + 1) / 2, [1] * 4, mode="replicate")
    dx = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / 2
    dy = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / 2
    # The largest central difference along both axes is a half each.
    return (2 * (dx.square() + dy.square())).sqrt()


def _multi_scale(a: Picture, b: Picture) -> float:
    """The product over scales of contrast-structure, with luminance at the coarsest, for values in [0, 1]."""
    side = min(a.shape[-2:])
    size = min(WINDOW, side)
    count = 1
    while count < len(SCALES) and side >> count >= size:
        count += 1
    total = 1.0
    for k in range(count):
        luminance, structure = _ssim_parts(a, b, size)
        part = luminance * structure if k == count - 1 else structure
        total *= max(float(part.mean()), 0.0) ** (SCALES[k] / sum(SCALES[:count]))
        if k < count - 1:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return total


def _ssim_parts(a: Picture, b: Picture, size: int) -> tuple[Tensor, Tensor]:
    """Luminance and contrast-structure terms wherever a whole window of that size fits."""
    at = torch.arange(size, device=a.device) - (size - 1) / 2
    bell = torch.exp(-at.square() / (2 * SIGMA**2))
    bell = bell / bell.sum()
    channels = a.shape[1]

    def blur(x: Tensor) -> Tensor:
        x = F.conv2d(x, bell[None, None, :, None].expand(channels, 1, -1, -1), groups=channels)
        return F.conv2d(x, bell[None, None, None].expand(channels, 1, -1, -1), groups=channels)

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    both = blur(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + K1**2) / (mean_a**2 + mean_b**2 + K1**2)
    return luminance, (2 * both + K2**2) / (var_a + var_b + K2**2)


def correspondences(
    first: Float[Tensor, "1 channel cells_y cells_x"],
    second: Float[Tensor, "1 channel cells_y cells_x"],
    grid: Grid,
    points: Float[Tensor, "n 2"],
    size: tuple[int, int],
) -> tuple[Float[Tensor, "n 2"], Bool[Tensor, "n"]]:
    """Where points of one picture are in another, by their features: for models without a known truth.

    Features are compared by angle after every channel was brought to mean 0 and variance 1. The nearest position in
    the second picture is found on a lattice of one feature cell, then refined to whole pixels. A point is good if
    looking back from there leads to within two cells of where it came from.

    Args:
        size: of the picture, ``(height, width)``.

    Returns:
        Positions in the second picture, and which of them are good.
    """
    spread, mean = torch.std_mean(torch.cat([first, second]), (0, 2, 3), keepdim=True)
    maps = [(f - mean) / (spread + 1e-6) for f in (first, second)]

    def look(features: Tensor, at: Tensor) -> Tensor:
        return F.normalize(sample(features, grid, at), dim=-1)

    cell = max(round(1 / max(grid.scale)), 1)
    y, x = torch.meshgrid(*(torch.arange(cell // 2, n, cell, device=points.device) for n in size), indexing="ij")
    lattice = torch.stack([x, y], -1).reshape(-1, 2).float()
    near = torch.arange(-cell, cell + 1, device=points.device).float()
    around = torch.stack(torch.meshgrid(near, near, indexing="ij"), -1).reshape(-1, 2)
    limit = points.new_tensor([size[1] - 1, size[0] - 1])

    def match(source: Tensor, target: Tensor, at: Tensor) -> Tensor:
        wanted = look(source, at)
        coarse = lattice[(wanted @ look(target, lattice).T).argmax(1)]
        fine = (coarse[:, None] + around).clamp(torch.zeros_like(limit), limit)
        best = (look(target, fine) * wanted[:, None]).sum(-1).argmax(1)
        return fine[torch.arange(len(fine), device=fine.device), best]

    there = match(maps[0], maps[1], points)
    back = match(maps[1], maps[0], there)
    return there, (back - points).norm(dim=-1) <= 2 * cell
