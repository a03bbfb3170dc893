"""The image sets of the papers' tables: what their tasks, nets and settings are, and their images once they are here.

Imports `losses`, `metrics`, `tasks`, its folder's `kinds`, `one_against_all`, `registry`, `sets` and `splits`.
`describe` tells everything that needs no image, which is enough to build and count every model. A script in
`data_scripts` makes what `load` reads.
"""

from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .. import losses, metrics
from ..files import unknown
from ..tasks import Problem, Task
from .kinds import Measures, binary, classification, depth, normals, segmentation
from .one_against_all import MEASURES
from .registry import register
from .sets import read, with_holdout
from .splits import at_most, generator

DEEPLAB_50 = {"name": "deeplab_resnet", "depth": 50}
DEEPLAB_18 = {"name": "deeplab_resnet", "depth": 18}
ATTRIBUTES = ("five_o_clock_shadow", "black_hair", "blond_hair", "brown_hair", "goatee", "mustache", "no_beard",
              "rosy_cheeks", "wearing_hat")


SIXTEEN = ("arched_eyebrows", "bags_under_eyes", "black_hair", "brown_hair", "chubby", "double_chin", "goatee",
           "heavy_makeup", "mouth_slightly_open", "mustache", "pale_skin", "sideburns", "smiling", "wavy_hair",
           "wearing_lipstick", "young")
FORTY = tuple("""
    five_o_clock_shadow arched_eyebrows attractive bags_under_eyes bald bangs big_lips big_nose black_hair blond_hair
    blurry brown_hair bushy_eyebrows chubby double_chin eyeglasses goatee gray_hair heavy_makeup high_cheekbones male
    mouth_slightly_open mustache narrow_eyes no_beard oval_face pale_skin pointy_nose receding_hairline rosy_cheeks
    sideburns smiling straight_hair wavy_hair wearing_earrings wearing_hat wearing_lipstick wearing_necklace
    wearing_necktie young""".split())


@register("cityscapes")
def cityscapes(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """CityScapes, street scenes of 3 x 128 x 256: `segmentation` into 7 classes and `depth`.

    2,975 images for training and 500 for validation, which are the test split: the papers report on them. Depth is
    inverse, a disparity as the set has it; where that is zero it is not known, and NaN here.
    holdout: share of the training images to choose by, taken by `seed`; 0 leaves all for training, and the published
        validation images are then both `val` and `test`.
    root: where `python data_scripts/cityscapes.py` put the set.
    """
    return _benchmark("cityscapes", [segmentation("segmentation", 7), depth("depth")], (128, 256), DEEPLAB_50,
                      _dense(8), _held("cityscapes", root, holdout, seed, with_data))


@register("nyuv2")
def nyuv2(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """NYUv2, indoor scenes of 3 x 288 x 384: `segmentation` into 13 classes, `depth`, `normals`.

    795 images for training and 654 for validation, which are the test split: the papers report on them. In the set, a
    depth of zero and normals of length zero mean that there is no label; they are NaN here, and in no error.
    holdout: share of the training images to choose by, taken by `seed`; 0 leaves all for training, and the published
        validation images are then both `val` and `test`.
    root: where `python data_scripts/nyuv2.py` put the set.
    """
    tasks = [segmentation("segmentation", 13), depth("depth"), normals("normals")]
    splits = _held("nyuv2", root, holdout, seed, with_data)
    return _benchmark("nyuv2", tasks, (288, 384), DEEPLAB_50, _dense(8), splits)


@register("pascal_context")
def pascal_context(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """PASCAL-Context: `segmentation` into 21 classes, `human_parts` into 7, `saliency`, `normals`.

    4,998 images for training and 5,105 for validation, which are the test split: the papers report on them. The papers
    do not print their size; 3 x 512 x 512 is that of the work they follow for targets (K.-K. Maninis et al., Attentive
    Single-Tasking of Multiple Tasks, 2019).
    Saliency has one logit and the binary cross-entropy: that the loss is a cross-entropy is printed, the number of
    channels is not, and with two the size of LTB in table 3 would be missed by a hundred parameters.
    The measures are those of chapter 5 of the thesis. Saliency and normals are distilled from other nets. Images
    without a person have no `human_parts`, and pixels of things that those nets did not know have no `normals`.
    holdout: share of the training images to choose by, taken by `seed`; 0 leaves all for training, and the published
        validation images are then both `val` and `test`.
    root: where `python data_scripts/pascal_context.py` put the set.
    """
    within: Measures = {f"within_{degrees}": partial(metrics.AngleWithin, degrees) for degrees in (11.25, 22.5, 30)}
    angles: Measures = {"mean_angle": metrics.MeanAngle, "rmse_angle": metrics.RMSEAngle, **within}
    tasks = [
        Task("segmentation", losses.cross_entropy, {"miou": partial(metrics.MeanIoU, 21)}, 21, dense=True),
        Task("human_parts", losses.cross_entropy, {"miou": partial(metrics.MeanIoU, 7)}, 7, dense=True),
        Task("saliency", losses.binary_cross_entropy, {"miou": metrics.MeanIoU, "max_f": metrics.MaxF}, 1, dense=True),
        Task("normals", losses.cosine, angles, 3, dense=True, kind="regression"),
    ]
    splits = _held("pascal_context", root, holdout, seed, with_data)
    return _benchmark("pascal_context", tasks, (512, 512), DEEPLAB_18, _dense(32), splits)


@register("taskonomy")
def taskonomy(holdout: float | int = 0.1, seed: int = 0, root: str = "data", with_data: bool = True) -> Problem:
    """Taskonomy: `segmentation` into 17 classes, `depth`, `keypoints`, `edges`, `normals`.

    13,286 images of five buildings for training and 3,794 for validation, which are the test split. The papers do not
    print their size; 3 x 256 x 256 is that of the published images of the work they follow (T. Standley et al., Which
    Tasks Should Be Learned Together, 2020). Segmentation is labelled by a net; its class 0,
    "uncertain", is no label.
    holdout: share of the training images to choose by, taken by `seed`; 0 leaves all for training, and the validation
        images are then both `val` and `test`.
    root: where `python data_scripts/taskonomy.py` put the set.
    """
    errors: Measures = {"abs_error": metrics.AbsError}
    maps = [Task(name, losses.l1, errors, 1, dense=True, kind="regression") for name in ("keypoints", "edges")]
    tasks = [segmentation("segmentation", 17), depth("depth"), *maps, normals("normals")]
    splits = _held("taskonomy", root, holdout, seed, with_data)
    return _benchmark("taskonomy", tasks, (256, 256), DEEPLAB_18, _dense(128), splits)


@register("celeba")
def celeba(attributes: str = "nine", train: int | None = None, seed: int = 0, root: str = "data",
           with_data: bool = True) -> Problem:
    """CelebA, faces of 3 x 64 x 64: attributes, each yes or no.

    162,770 images for training, 19,867 for validation, 19,962 for testing. The net is said to be ResNet-18; its
    printed size is that of the one for small images, with 2,048 features from a 2 x 2 grid.
    attributes: "nine", as in the thesis, section 5.4.3, or all "forty", as in *A Model-Agnostic Approach to Mitigate
        Gradient Interference for Multi-Task Learning*, section IV: two classes each; or "sixteen", with one logit
        and the measures of table 2, as in *Saliency-Regularized Deep Multi-Task Learning*, section 5.1.
    train: so many images for training, taken by `seed`; None takes all. With the sixteen 30,000 are printed.
    root: where `python data_scripts/celeba.py` put the set.
    Raises ValueError for other attributes, and for more images than there are.
    """
    names = {"nine": ATTRIBUTES, "sixteen": SIXTEEN, "forty": FORTY}
    if attributes not in names:
        raise ValueError(unknown("attributes", attributes, names))
    tasks = [binary(attribute, measures=MEASURES) if attributes == "sixteen" else classification(attribute, 2)
             for attribute in names[attributes]]
    encoder = {"name": "resnet", "depth": 18, "stem": "3x3", "pool": 4}
    paper = {"lr": 5e-4, "batch_size": 16, "epochs": 10}
    splits = read("celeba", root, names[attributes]) if with_data else {}
    if splits and train is not None:
        at_most(train, len(splits["train"]), f"{train:,} images for training")
        order = torch.from_numpy(generator(seed, "celeba/train").permutation(len(splits["train"])))
        splits["train"] = splits["train"].subset(order[:train].sort().values)
    return _benchmark("celeba", tasks, (64, 64), encoder, paper, splits)


def zero_is_void(target: Float[Tensor, "samples channels *pixels"]) -> Float[Tensor, "samples channels *pixels"]:
    """`target` with NaN, which is how a real target says "no label", at each pixel whose channels are all zero.

    The image sets have a depth of zero, and normals of length zero, where nothing is known. As numbers they would be
    learned and measured. Length decides, not the sum of the channels, which is zero for some true normals too.

    >>> import torch
    >>> zero_is_void(torch.tensor([[[0.5, 0.0], [-0.5, 0.0]]])).tolist()
    [[[0.5, nan], [-0.5, nan]]]
    """
    return target.masked_fill((target == 0).all(1, keepdim=True), float("nan"))


def _dense(batch_size: int) -> dict[str, float]:
    """Training for the dense sets: section 7.2 of Deep Safe Multi-Task Learning, 5.3.2 of the thesis; with Adam."""
    return {"lr": 1e-4, "weight_decay": 1e-5, "batch_size": batch_size, "epochs": 200}


def _held(name: str, root: str, holdout: float | int, seed: int, with_data: bool) -> dict[str, Any]:
    """The splits of a set whose published validation images are the test split; none in a description."""
    return with_holdout(read(name, root), holdout, seed) if with_data else {}


def _benchmark(name: str, tasks: list[Task], size: tuple[int, int], encoder: dict, paper: dict,
               splits: dict[str, Any]) -> Problem:
    """The problem. Smaller budgets keep the paper's settings and take fewer samples and epochs.

    splits: with data, train, val and test, whose images may have another size than the printed one.
    """
    batch = paper["batch_size"]
    settings = {key: value for key, value in paper.items() if key != "epochs"}
    training = {"smoke": settings | {"samples": 2 * batch, "evaluate": 2 * batch},
                "fast": settings | {"samples": 40 * batch}, "full": settings, "paper": paper}
    shape = tuple(splits["train"].fields["inputs"].shape) if splits else (3, *size)
    return Problem(name, tasks, splits.get("train"), splits.get("val"), splits.get("test"), shape, encoder,
                   training=training)
