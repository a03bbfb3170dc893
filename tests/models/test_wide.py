"""Wide networks are as large as what they are held against, and differ from the usual ones in nothing else."""

import pytest
from torch import nn

from mtlcourse import data, methods, models
from tests.problems import OFFLINE, small


@pytest.mark.parametrize("name", OFFLINE)
@pytest.mark.parametrize("like", ["stl", "dsmtl-jl"])
def test_wide_hard_sharing_is_as_large_as_what_it_is_held_against(name: str, like: str):
    wanted = methods.count_parameters(like, name)
    wide = methods.count_parameters(f"hps-wide(like={like.removesuffix('-jl')})", name)
    assert wanted <= wide <= 1.15 * wanted


@pytest.mark.parametrize("name", OFFLINE)
def test_wide_single_task_networks_are_as_large_as_gated_ones(name: str):
    wanted, wide = methods.count_parameters("dsmtl-jl", name), methods.count_parameters("stl-wide", name)
    # Ten heads with a hidden layer look at the digits' flattened map: four channels more are a fifth of all parameters.
    assert wanted <= wide <= (1.3 if name == "digits_mtl" else 1.15) * wanted
    model = methods.build("stl-wide", data.describe(name))
    assert isinstance(model, models.STL) and not list(model.shared_parameters())


@pytest.mark.parametrize(("wide", "plain"), [(models.WideHPS, models.HPS), (models.WideSTL, models.STL)])
def test_widening_multiplies_widths_only(wide: type, plain: type):
    problem = data.describe("rooms")
    made, usual = wide(problem), plain(problem)
    assert [type(m) for m in made.modules() if m is not made] == [type(m) for m in usual.modules() if m is not usual]
    groups = [[m.num_groups for m in model.modules() if isinstance(m, nn.GroupNorm)] for model in (made, usual)]
    assert groups[0] == groups[1]


@pytest.mark.parametrize(("model", "options", "message"), [
    (models.WideHPS, {"like": "mtan"}, "Unknown model to be as large as 'mtan'"),
    (models.WideHPS, {"encoder": [nn.Linear(4, 5)]}, "needs an encoder spec with widths, channels or features"),
    (models.WideSTL, {"encoder": [nn.Linear(4, 5)]}, "needs an encoder spec with widths, channels or features"),
])
def test_what_cannot_be_widened(model: type, options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        model(small(), **options)


@pytest.mark.parametrize("model", [models.WideHPS, models.WideSTL])
@pytest.mark.parametrize(("encoder", "message"), [
    ("bert", "multiplies the widths, channels or features of an encoder, and 'bert' has none of these: its options are "
             "layers, weights, vocab"),
    ({"name": "bert", "layers": 1, "width": 8, "heads": 2}, "and 'bert' has none of these: its options are layers, "),
    ({"name": "resnet", "depth": 34}, "and 'resnet' has none of these: its options are depth, weights, stem, pool. Na"),
    ("mobilenet", "'mobilenet' has none of these: its options are weights. Name an encoder that has, such as .'name"),
    ({"name": "tests.encoders.own:stages", "depth": 3}, "that of 'tests.encoders.own:stages' says none of these: let"),
    ("bret", "Unknown encoder 'bret'. Known: bert, "), ({"widths": None}, "Unknown encoder 'None'")])
def test_the_reason_is_the_encoders_own(model: type, encoder: str | dict, message: str):
    with pytest.raises(ValueError, match=message):
        model(small(), encoder)
