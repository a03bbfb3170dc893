"""The candidate operations: shapes, counts, and what each of them computes."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from mtlcourse.encoders import size
from mtlcourse.search.cells.operations import OPERATIONS, Count, FactorizedReduce, build, count, make_stem


@pytest.mark.parametrize("side", [(8, 8), (7, 7), (5, 8), (1, 4)])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [4, 5])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_keeps_channels_and_divides_sides_and_costs_what_the_table_says(operation, channels, stride, side):
    for affine in (True, False):
        module = build(operation, channels, stride, affine)
        with FlopCounterMode(display=False) as counter:
            y = module(torch.randn(2, channels, *side))
        assert y.shape == (2, channels, *(-(-pixels // stride) for pixels in side))
        multiply_adds = counter.get_total_flops() / 2 / len(y)
        assert count(operation, channels, stride, side, affine) == Count(size(module), multiply_adds)


@pytest.mark.parametrize(("operation", "stride", "printed"), [
    ("none", 1, 0), ("none", 2, 0), ("max_pool_3x3", 1, 0), ("skip_connect", 1, 0),
    ("avg_pool_3x3", 1, 4 * 36), ("skip_connect", 2, (16 + 8) * 9),
    ("sep_conv_3x3", 1, 2 * 36 * (4 + 16 + 9 * 4 + 8)), ("sep_conv_5x5", 1, 2 * 36 * (4 + 16 + 25 * 4 + 8)),
    ("dil_conv_3x3", 1, 36 * (4 + 16 + 9 * 4 + 8)), ("dil_conv_5x5", 2, 9 * (4 + 16 + 25 * 4 + 8)),
])
def test_the_printed_counting_is_the_printed_formula(operation, stride, printed):
    """C = 4 channels, 6 x 6 pixels."""
    assert count(operation, 4, stride, 6, counting="printed").flops == printed


def test_a_side_stands_for_a_square():
    assert count("sep_conv_3x3", 4, 2, 7) == count("sep_conv_3x3", 4, 2, (7, 7))


def test_none_gives_zeros_and_a_skip_gives_what_comes_in():
    x = torch.randn(2, 3, 5, 5)
    assert not build("none", 3, 2)(x).any()
    assert torch.equal(build("skip_connect", 3, 1)(x), x)


def test_an_average_leaves_out_what_lies_beyond_the_border():
    assert torch.allclose(build("avg_pool_3x3", 2, 1)(torch.ones(1, 2, 4, 4)), torch.ones(1, 2, 4, 4))


@pytest.mark.parametrize("operation", ["sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5"])
def test_windows_are_as_wide_as_their_names_say(operation):
    """A pixel in the middle is seen as far as the windows reach; separable ones are passed twice."""
    module = build(operation, 1, 1)
    for layer in module:
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    x = torch.zeros(1, 1, 17, 17)
    x[..., 8, 8] = 1.0
    kernel = int(operation[-1])
    reach, seen = {"sep": (2 * (kernel // 2), 4 * (kernel // 2) + 1), "dil": (2 * (kernel // 2), kernel)}[operation[:3]]
    columns = module(x)[0, 0].abs().sum(0).nonzero().flatten()
    assert (columns.min(), columns.max(), len(columns)) == (8 - reach, 8 + reach, seen)


@pytest.mark.parametrize("side", [4, 5])
def test_a_factorised_reduction_sees_every_row(side):
    x = torch.rand(1, 2, side, side, requires_grad=True)
    y = FactorizedReduce(2, 4).eval()(x)
    y.sum().backward()
    assert y.shape[-1] == -(-side // 2)
    assert (x.grad.abs().sum(1)[0].diagonal() > 0).all()  # even pixels by one half, odd ones by the other


@pytest.mark.parametrize("channels", [2, 3, 8])
def test_a_factorised_reduction_has_the_same_gradient_whatever_the_order_of_its_memory(channels):
    """A strided 1 x 1 convolution had not, with AVX2: it wrote beyond its memory, and the process ended."""
    reduction = FactorizedReduce(channels, 4)
    x = torch.randn(8, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    gradients = []
    for order in [torch.contiguous_format] + [torch.channels_last] * 50:
        loss = reduction(x.contiguous(memory_format=order)).pow(3).sum()
        gradients.append(torch.autograd.grad(loss, [reduction.even.weight, reduction.odd.weight]))
    for gradient in gradients[1:]:
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("unknown", ["identity", "conv_3x3", "", "Sep_Conv_3x3"])
def test_an_unknown_operation_is_refused_by_name(unknown):
    with pytest.raises(ValueError, match="sep_conv_3x3"):
        build(unknown, 4, 1)
    with pytest.raises(ValueError, match="sep_conv_3x3"):
        count(unknown, 4, 1, 8)
    with pytest.raises(ValueError, match="counting"):
        count("none", 4, 1, 8, counting="macs")


def test_a_stem_normalises_by_channel():
    stem = make_stem(2, 6, mean=[0.5, 0.2], std=[0.5, 0.1])
    x = torch.rand(3, 2, 4, 4)
    normalised = stem[0](x)
    assert torch.allclose(normalised[:, 1], (x[:, 1] - 0.2) / 0.1, atol=1e-6)
    for mean, std in (([0.5], [0.5]), ([0.5, 0.5], None), (None, [1.0, 1.0])):
        with pytest.raises(ValueError, match="one a channel"):
            make_stem(2, 6, mean=mean, std=std)
