"""The encoders of the papers' benchmarks: ResNet, DeepLab-ResNet, VGG, MobileNet, Wide ResNet, in stages.

Imports `decoders`, `staged`, and torchvision inside its functions. All have batch normalisation but VGG:
in training, a sample's prediction depends on the other samples of its batch, so that halves of a
batch give other statistics than the whole. The papers' nets do; the course's small encoders do not.
"""

from collections import OrderedDict
from collections.abc import Sequence
from types import ModuleType
from urllib.error import URLError

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..tasks import Task
from .decoders import decoder
from .staged import StagedEncoder

RESNETS, VGGS = (18, 34, 50), (16, 19)
STEMS = ("7x7", "3x3")


def resnet(input_shape: Sequence[int], depth: int = 18, weights: str | None = None, stem: str = "7x7",
           pool: int | None = None) -> StagedEncoder:
    """ResNet in five stages, as the papers count its modules: the stem, then layers 1 to 4; P = 6.

    depth: 18, 34 or 50.  weights: None, or "imagenet", see `pretrained`.
    stem: "7x7" is the usual one (stride 2, then a max-pooling of stride 2), "3x3" the one for small images
        (stride 1, no pooling).
    pool: with a number, the last stage also averages over squares of so many pixels and flattens what is left,
        for heads that see where things are.
    Raises ValueError for another depth, stem or weights, or inputs that are no colour images, and
    ModuleNotFoundError without torchvision.
    Source: K. He et al., Deep Residual Learning for Image Recognition, 2016. The thesis's CelebA model, going by its
    size, is depth=18, stem="3x3", pool=4.
    """
    _one_of("depth", depth, RESNETS)
    _one_of("stem", stem, STEMS)
    net = _network(f"resnet{depth}", weights, input_shape)
    if stem == "3x3":
        if weights is not None:
            raise ValueError("The ImageNet weights belong to stem='7x7'; with stem='3x3' use weights=None.")
        net.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
        net.maxpool = nn.Identity()
    stages = _resnet_stages(net)
    if pool is not None:
        stages[-1] = nn.Sequential(stages[-1], nn.AvgPool2d(pool), nn.Flatten())
    return StagedEncoder(_normalised(stages, weights), input_shape)


def deeplab_resnet(input_shape: Sequence[int], depth: int = 50, weights: str | None = None) -> StagedEncoder:
    """ResNet whose last two layers are dilated instead of strided, so that maps stay at an eighth of the input.

    Five stages as in `resnet`. Dense tasks get an `ASPPDecoder`; with it a net for one task is torchvision's
    `deeplabv3_resnet50` without its auxiliary classifier, and for depths 18 and 34 the same by analogy.
    The decoder averages a map to one pixel before it normalises it, so training needs two samples a batch.

    depth, weights: as for `resnet`, with the same errors.
    Source: L.-C. Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, 2017.
    """
    _one_of("depth", depth, RESNETS)
    net = _network(f"resnet{depth}", weights, input_shape)
    _dilate(net.layer3, before=1, after=2)
    _dilate(net.layer4, before=2, after=4)
    return StagedEncoder(_normalised(_resnet_stages(net), weights), input_shape, deeplab_decoder)


def wide_resnet(input_shape: Sequence[int], weights: str | None = None) -> StagedEncoder:
    """Wide ResNet-50-2, a ResNet-50 with twice the width inside its blocks; five stages as in `resnet`.

    Source: S. Zagoruyko and N. Komodakis, Wide Residual Networks, 2016.
    """
    net = _network("wide_resnet50_2", weights, input_shape)
    return StagedEncoder(_normalised(_resnet_stages(net), weights), input_shape)


def vgg(input_shape: Sequence[int], depth: int = 16, weights: str | None = None) -> StagedEncoder:
    """The convolutions of VGG-16 or VGG-19 (without batch norm) in five stages, each ending with a max-pooling.

    Source: K. Simonyan and A. Zisserman, Very Deep Convolutional Networks, 2015.
    """
    _one_of("depth", depth, VGGS)
    layers = list(_network(f"vgg{depth}", weights, input_shape).features)
    ends = [number for number, layer in enumerate(layers, start=1) if isinstance(layer, nn.MaxPool2d)]
    return StagedEncoder(_normalised(_cut(layers, ends), weights), input_shape)


def mobilenet(input_shape: Sequence[int], weights: str | None = None) -> StagedEncoder:
    """MobileNetV2 in five stages, one a resolution; the last also holds the final 1 x 1 convolution.

    Source: M. Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018.
    """
    blocks = list(_network("mobilenet_v2", weights, input_shape).features)
    strided = [number for number, block in enumerate(blocks) if getattr(block, "stride", 1) == 2]
    return StagedEncoder(_normalised(_cut(blocks, [*strided, len(blocks)]), weights), input_shape)


# --- cutting and dilating ----------------------------------------------------------------------------

def _cut(layers: list[nn.Module], ends: list[int]) -> list[nn.Module]:
    return [nn.Sequential(*layers[start:end]) for start, end in zip([0, *ends], ends, strict=False)]


def _resnet_stages(net: nn.Module) -> list[nn.Module]:
    stem = OrderedDict((name, getattr(net, name)) for name in ("conv1", "bn1", "relu", "maxpool"))
    return [nn.Sequential(stem), *(getattr(net, f"layer{number}") for number in range(1, 5))]


def _dilate(layer: nn.Module, before: int, after: int) -> None:
    """Take away the stride of a ResNet layer and spread its 3 x 3 convolutions instead.

    The convolution that had the stride sees the input of the layer, at dilation `before`; those after it
    reach as far as they would have on the smaller map, at dilation `after`.
    """
    for module in layer.modules():
        if isinstance(module, nn.Conv2d):
            if module.kernel_size == (3, 3):
                dilation = before if module.stride == (2, 2) else after
                module.dilation = module.padding = (dilation, dilation)
            module.stride = (1, 1)


# --- decoders ----------------------------------------------------------------------------------------

class ASPPDecoder(nn.Module):
    """Atrous spatial pyramid pooling, a 3 x 3 and a 1 x 1 convolution, bilinear to input resolution.

    The pyramid looks at each place through a 1 x 1 convolution, 3 x 3 ones of dilations 12, 24 and 36 and the
    mean of the whole map, 256 channels each.
    """

    def __init__(self, channels: int, out_channels: int, size: Sequence[int]):
        super().__init__()
        _torchvision()
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead

        self.size = tuple(size)
        self.layers = DeepLabHead(channels, out_channels)

    def forward(self, z: Float[Tensor, "batch channels rows columns"]) -> Float[Tensor, "batch out height width"]:
        return nn.functional.interpolate(self.layers(z), self.size, mode="bilinear", align_corners=False)


def deeplab_decoder(task: Task, shape: Sequence[int], input_shape: Sequence[int]) -> nn.Module:
    """The head of `task` on `deeplab_resnet`: `ASPPDecoder` if it predicts every pixel, else as everywhere."""
    if task.dense and len(shape) == 3:
        return ASPPDecoder(shape[0], task.out_channels, input_shape[-2:])
    return decoder(task, shape, input_shape)


# --- torchvision -------------------------------------------------------------------------------------

def _torchvision() -> ModuleType:
    try:
        import torchvision
    except (ImportError, RuntimeError) as error:  # the latter: it is there, but built for another torch
        raise ModuleNotFoundError(
            f"These encoders need torchvision, which cannot be imported ({error}). Install the vision extra, with the "
            "torch that belongs to it: pip install -c constraints/vision.txt 'mtlcourse[vision]'.",
            name="torchvision") from error
    return torchvision


def _network(name: str, weights: str | None, input_shape: Sequence[int]) -> nn.Module:
    if len(input_shape) != 3 or input_shape[0] != 3:
        raise ValueError(f"{name} needs colour images (3, height, width); this problem has inputs of shape "
                         f"{tuple(input_shape)}. Use {{'name': 'conv'}} or {{'name': 'mlp'}} instead.")
    if weights not in (None, "imagenet"):
        raise ValueError(f"weights={weights!r} is not known; use 'imagenet', or None to start from random weights.")
    net = getattr(_torchvision().models, name)(weights=None)
    if weights and next(net.parameters()).device.type != "meta":
        net.load_state_dict(pretrained(name))
    return net


def pretrained(name: str) -> dict[str, Tensor]:
    """The ImageNet-1k weights that torchvision's `name` was first published with, from its cache or its site.

    Raises OSError when they are neither there nor to be had, saying where they were looked for.
    """
    weights = _torchvision().models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (URLError, OSError, RuntimeError) as error:
        raise OSError(
            f"The ImageNet weights of {name} cannot be had: {error}. They were looked for in {torch.hub.get_dir()}"
            f"/checkpoints and at {weights.url}. Put the file there (TORCH_HOME says where 'there' is), or start from "
            "random weights with weights=None.") from error


class Normalise(nn.Module):
    """From colours in [0, 1] to what ImageNet's nets were trained on: mean 0, deviation 1 for each channel."""

    def __init__(self):
        super().__init__()
        for name, values in {"mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225]}.items():
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        return (x - self.mean) / self.deviation


def _normalised(stages: list[nn.Module], weights: str | None) -> list[nn.Module]:
    """With ImageNet weights the first stage also normalises, so that inputs are colours in [0, 1] either way."""
    if weights is None:
        return stages
    first = OrderedDict([("normalise", Normalise()), *stages[0].named_children()])
    return [nn.Sequential(first), *stages[1:]]


def _one_of(option: str, value: object, known: Sequence) -> None:
    if value not in known:
        raise ValueError(f"{option}={value!r} is not there; choose from {', '.join(map(repr, known))}.")
