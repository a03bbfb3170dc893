"""Networks of a user's own, that tests name by their address or cut into stages."""

import torch
import torch.nn.functional as F
from torch import nn

from mtlcourse import data
from mtlcourse.tasks import Problem, TensorSplit


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x):
        return self.relu(x + self.norm(self.conv(x)))


class ResNet(nn.Module):
    """Blocks in a list, dropout by function, activations in place: as people write them."""

    def __init__(self, channels: int = 4):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels)
        self.relu, self.pool = nn.ReLU(inplace=True), nn.MaxPool2d(2)
        self.layer1 = nn.Sequential(Block(channels), Block(channels))
        self.blocks = nn.ModuleList([Block(channels), Block(channels)])
        self.fc = nn.Linear(channels, 7)

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.conv(x))))
        x = self.layer1(x)
        for block in self.blocks:
            x = F.dropout(block(x), 0.2, self.training)
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


class ViT(nn.Module):
    """Patches, a class token, positions, torch's own encoder: parameters that belong to no leaf, sizes of the batch."""

    def __init__(self, width: int = 8, layers: int = 3):
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, 4)
        self.token, self.positions = nn.Parameter(torch.randn(1, 1, width)), nn.Parameter(torch.randn(1, 5, width))
        self.register_buffer("scale", torch.tensor(0.5))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(width, 2, 16, 0.1, batch_first=True), layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 3)

    def forward(self, x):
        n, _, height, width = x.shape
        torch._assert(height == width, "squares only")
        x = self.patches(x).reshape(n, -1, 4).permute(0, 2, 1)
        x = torch.cat([self.token.expand(n, -1, -1), x], 1) * self.scale + self.positions
        x = self.norm(self.encoder(x))
        return self.head(x[:, 0])


class Text(nn.Module):
    """A transformer that takes token ids and a mask, and gives the mean over what is not masked."""

    def __init__(self, words: int = 11, width: int = 8):
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.layer = nn.TransformerEncoderLayer(width, 2, 16, 0.0, batch_first=True)

    def forward(self, ids, mask):
        x = self.layer(self.words(ids), src_key_padding_mask=~mask)
        return (x * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)


def network(input_shape, channels=4):
    """One model, for specs with cuts."""
    return ResNet(channels)


def stages(input_shape, width=6):
    """Stages, for specs without."""
    return [nn.Sequential(nn.Linear(*input_shape, width), nn.ReLU()), nn.Linear(width, width)]


def head(task, shape, input_shape):
    """Each task its own kind of head."""
    inner = nn.Tanh() if task.name == "kind" else nn.Softplus()
    return nn.Sequential(nn.Flatten(), inner, nn.LazyLinear(task.out_channels) if not shape else
                         nn.Linear(torch.Size(shape).numel(), task.out_channels))


def no_head(task, shape, input_shape):
    return "linear"


ENCODER = {"name": "tests.encoders.own:network", "cuts": ["pool", "layer1", "blocks.1"], "channels": 3,
           "head": {"kind": "tests.encoders.own:head", "big": [4]}, "frozen": 1, "lora": {"rank": 2, "stages": [2]}}


def problem(encoder=None):
    """Images whose encoder, heads, frozen and adapted stages are all named."""
    generator = torch.Generator().manual_seed(0)

    def split(samples):
        x = torch.rand(samples, 3, 8, 8, generator=generator)
        return TensorSplit(x, {"kind": x.mean((2, 3)).argmax(1), "big": (x.mean((1, 2, 3)) > 0.5).long()})

    return Problem("own", [data.classification("kind", 3), data.binary("big")], split(48), split(24), split(24),
                   (3, 8, 8), ENCODER if encoder is None else encoder)


def of_modules():
    """A problem whose encoder is in memory."""
    return problem([nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), nn.ReLU()])


def module_in_spec():
    """A problem that names a module in place of an address."""
    return problem({"name": ResNet()})


def module_in_option():
    return problem({"name": "tests.encoders.own:network", "net": ResNet()})


def function_in_head():
    return problem({"name": "conv", "head": head})
