"""Images from elsewhere, for what a classifier of digits was not made for: three samples that share nothing.

Imports `files`, its folder's `idx`, `splits`. Real and offline: photographs that come with scikit-image, the digits of
another set that come with scikit-learn; Fashion-MNIST where it is installed.
"""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor

from ..files import is_whole, unknown
from .idx import FASHION, read_idx
from .splits import generator

USES = ("lower", "upper", "test")  # the weights, the architecture, the area under the curve
SETS = ("photographs", "optdigits", "fashion")
# Of scikit-image, by use, so that no two samples show the same photograph.
PHOTOGRAPHS = {"lower": ("astronaut", "coins", "brick", "text"), "upper": ("chelsea", "rocket", "grass", "page"),
               "test": ("coffee", "camera", "gravel", "moon")}
IMAGES_OF_FASHION = {"lower": "train-images-idx3-ubyte.gz", "upper": "train-images-idx3-ubyte.gz",
                     "test": "t10k-images-idx3-ubyte.gz"}


def outside(name: str, sizes: dict[str, int], side: int, seed: int, folder: str = FASHION) -> dict[str, Tensor]:
    """`{use: (samples, 1, side, side)}`, float32 in [0, 1], of the set `name`.

    "photographs": grey patches of other photographs for each use, so many pixels that their side is twice to eight
        times `side`, shrunk by averaging.
    "optdigits": handwritten digits of another set, 8 x 8 pixels brought to `side` by bilinear interpolation; a third
        of the 1,797 for each use at most. They are digits too: foreign by their origin and not by what they show.
    "fashion": pieces of clothing, from the folder's IDX files.
    Raises ValueError for another name, and for more samples than there are, FileNotFoundError without Fashion-MNIST.
    """
    if name not in SETS:
        raise ValueError(unknown("outside set", str(name), SETS))
    if name == "photographs":
        return {use: _patches(PHOTOGRAPHS[use], size, side, generator(seed, f"outside/{use}"))
                for use, size in sizes.items()}
    whole = _optdigits(side) if name == "optdigits" else None
    found, taken = {}, 0
    order = generator(seed, f"outside/{name}").permutation(1797)
    for use, size in sizes.items():
        if whole is not None:
            if taken + size > len(whole):
                raise ValueError(f"The three samples of optdigits are {sum(sizes.values()):,} images, and there are "
                                 f"{len(whole):,}: ask for fewer, at most {len(whole) // 3} for each.")
            found[use], taken = whole[torch.from_numpy(order[taken : taken + size])], taken + size
        else:
            images = _fashion(Path(folder) / IMAGES_OF_FASHION[use])
            half = len(images) // 2
            first = half if use == "upper" else 0  # the two levels share a file, and no image of it
            room = len(images) if use == "test" else half
            if size > room:
                raise ValueError(f"{size:,} images of Fashion-MNIST are wanted for {use!r}, and there are {room:,}.")
            found[use] = shrunk(torch.from_numpy(images[first : first + size])[:, None].float() / 255, side)
    return found


def shrunk(images: Float[Tensor, "samples 1 28 28"], side: int) -> Float[Tensor, "samples 1 side side"]:
    """The images with `side` pixels a side, by averaging; ValueError unless 28 is a multiple of it."""
    if not is_whole(side) or side not in (7, 14, 28):
        raise ValueError(f"side={side!r}: digits have 28 pixels a side, and are shrunk by averaging to 14 or 7.")
    return F.avg_pool2d(images, 28 // side)


def _fashion(path: Path) -> UInt8[np.ndarray, "samples height width"]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no {path}. Install Debian's package dataset-fashion-mnist, or give the "
                                "folder of its files as folder=...; the sets 'photographs' and 'optdigits' are here.")
    images = read_idx(path)
    if images.ndim != 3:
        raise ValueError(f"{path} holds no images: its shape is {images.shape}.")
    return images.copy()  # what is read cannot be written to, of which torch warns


def _optdigits(side: int) -> Float[Tensor, "samples 1 side side"]:
    from sklearn.datasets import load_digits

    images = torch.from_numpy(load_digits().images / 16).float()[:, None]
    return F.interpolate(images, (side, side), mode="bilinear").clamp(0, 1)


def _patches(names: tuple[str, ...], size: int, side: int, random: np.random.Generator
             ) -> Float[Tensor, "samples 1 side side"]:
    from skimage import data
    from skimage.color import rgb2gray

    pictures = [rgb2gray(image) if image.ndim == 3 else image / 255 for image in (getattr(data, n)() for n in names)]
    found = np.empty((size, 1, side, side), np.float32)
    for patch in found:
        picture = pictures[random.integers(len(pictures))]
        zoom = int(random.integers(2, 1 + min(8, min(picture.shape) // side)))
        top, left = (int(random.integers(length - zoom * side + 1)) for length in picture.shape)
        cut = picture[top : top + zoom * side, left : left + zoom * side]
        patch[0] = cut.reshape(side, zoom, side, zoom).mean((1, 3))
    return torch.from_numpy(found.clip(0, 1))
