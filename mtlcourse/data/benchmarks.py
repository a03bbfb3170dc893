"""The image sets of the papers' tables: what their tasks, nets and settings are. The images are not here.

Imports `losses`, `metrics`, `tasks`, its folder's `kinds` and `registry`. `describe` tells everything that
needs no image, which is enough to build and count every model.
"""

from functools import partial

from jaxtyping import Float
from torch import Tensor

from .. import losses, metrics
from ..tasks import Problem, Task
from .kinds import Measures, classification, depth, normals, segmentation
from .registry import register

DEEPLAB_50 = {"name": "deeplab_resnet", "depth": 50}
DEEPLAB_18 = {"name": "deeplab_resnet", "depth": 18}
ATTRIBUTES = ("five_o_clock_shadow", "black_hair", "blond_hair", "brown_hair", "goatee", "mustache", "no_beard",
              "rosy_cheeks", "wearing_hat")


@register("cityscapes")
def cityscapes(with_data: bool = True) -> Problem:
    """CityScapes, street scenes of 3 x 128 x 256: `segmentation` into 7 classes and `depth`.

    2,975 images for training and 500 for validation. Depth is inverse, as the set has it, and zero where it is not
    known: a reader passes it through `zero_is_void`.
    """
    return _benchmark("cityscapes", [segmentation("segmentation", 7), depth("depth")], (128, 256), DEEPLAB_50,
                      _dense(8), with_data)


@register("nyuv2")
def nyuv2(with_data: bool = True) -> Problem:
    """NYUv2, indoor scenes of 3 x 288 x 384: `segmentation` into 13 classes, `depth`, `normals`.

    795 images for training and 654 for validation. In the set, a depth of zero and normals of length zero mean that
    there is no label: a reader passes both through `zero_is_void`.
    """
    tasks = [segmentation("segmentation", 13), depth("depth"), normals("normals")]
    return _benchmark("nyuv2", tasks, (288, 384), DEEPLAB_50, _dense(8), with_data)


@register("pascal_context")
def pascal_context(with_data: bool = True) -> Problem:
    """PASCAL-Context: `segmentation` into 21 classes, `human_parts` into 7, `saliency`, `normals`.

    4,998 images for training and 5,105 for validation. The papers do not print their size; 3 x 512 x 512 is
    that of the work they follow for targets (K.-K. Maninis et al., Attentive Single-Tasking of Multiple Tasks, 2019).
    Saliency has one logit and the binary cross-entropy: that the loss is a cross-entropy is printed, the number of
    channels is not, and with two the size of LTB in table 3 would be missed by a hundred parameters.
    The measures are those of chapter 5 of the thesis.
    """
    within: Measures = {f"within_{degrees}": partial(metrics.AngleWithin, degrees) for degrees in (11.25, 22.5, 30)}
    angles: Measures = {"mean_angle": metrics.MeanAngle, "rmse_angle": metrics.RMSEAngle, **within}
    tasks = [
        Task("segmentation", losses.cross_entropy, {"miou": partial(metrics.MeanIoU, 21)}, 21, dense=True),
        Task("human_parts", losses.cross_entropy, {"miou": partial(metrics.MeanIoU, 7)}, 7, dense=True),
        Task("saliency", losses.binary_cross_entropy, {"miou": metrics.MeanIoU, "max_f": metrics.MaxF}, 1, dense=True),
        Task("normals", losses.cosine, angles, 3, dense=True, kind="regression"),
    ]
    return _benchmark("pascal_context", tasks, (512, 512), DEEPLAB_18, _dense(32), with_data)


@register("taskonomy")
def taskonomy(with_data: bool = True) -> Problem:
    """Taskonomy: `segmentation` into 17 classes, `depth`, `keypoints`, `edges`, `normals`.

    13,286 images of five buildings for training and 3,794 for validation. The papers do not print their size;
    3 x 256 x 256 is that of the published images of the work they follow (T. Standley et al., Which Tasks Should
    Be Learned Together, 2020).
    """
    errors: Measures = {"abs_error": metrics.AbsError}
    maps = [Task(name, losses.l1, errors, 1, dense=True, kind="regression") for name in ("keypoints", "edges")]
    tasks = [segmentation("segmentation", 17), depth("depth"), *maps, normals("normals")]
    return _benchmark("taskonomy", tasks, (256, 256), DEEPLAB_18, _dense(128), with_data)


@register("celeba")
def celeba(with_data: bool = True) -> Problem:
    """CelebA, faces of 3 x 64 x 64: nine attributes, each yes or no, as two classes.

    162,770 images for training, 19,867 for validation, 19,962 for testing. The net is said to be ResNet-18; its
    printed size is that of the one for small images, with 2,048 features from a 2 x 2 grid.
    """
    tasks = [classification(attribute, 2) for attribute in ATTRIBUTES]
    encoder = {"name": "resnet", "depth": 18, "stem": "3x3", "pool": 4}
    return _benchmark("celeba", tasks, (64, 64), encoder, {"lr": 5e-4, "batch_size": 16, "epochs": 10}, with_data)


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


def _benchmark(name: str, tasks: list[Task], size: tuple[int, int], encoder: dict, paper: dict,
               with_data: bool) -> Problem:
    """The description. Smaller budgets keep the paper's settings and take fewer samples and epochs."""
    if with_data:
        raise ValueError(
            f"The images of {name!r} cannot be fetched by this version: it can be described and counted, not loaded. "
            "If you have them: write a function that returns them as a Problem, with the tasks and the encoder of "
            f"data.describe({name!r}), and name it as 'package.module:function'. The README shows how. Where a set "
            "writes zero for depth or normals that are not known, data.benchmarks.zero_is_void masks them.")
    batch = paper["batch_size"]
    settings = {key: value for key, value in paper.items() if key != "epochs"}
    training = {"smoke": settings | {"samples": 2 * batch, "evaluate": 2 * batch},
                "fast": settings | {"samples": 40 * batch}, "full": settings, "paper": paper}
    return Problem(name, tasks, None, None, None, (3, *size), encoder, training=training)
