"""Tables of relations from a history, their order, and that the figures draw what they are given."""

import numpy as np
import pandas as pd
import pytest
import torch

from mtlcourse import figures, methods
from mtlcourse.figures.relations import clustered, heat_maps, over_epochs, saliency_maps
from tests.models.test_srdml import problem

TASKS = list("abcd")


def table(pairs: dict[str, float]) -> pd.DataFrame:
    shares = pd.DataFrame(0.0, index=TASKS, columns=TASKS)
    for (one, other), value in pairs.items():
        shares.loc[one, other] = shares.loc[other, one] = value
    return shares


def test_the_last_epoch_of_a_history_is_what_the_model_has():
    run = methods.run("srdml", problem(("kind", "size", "big")), budget="fast(epochs=2)", progress=False)
    tables = over_epochs(run.history, run.model.task_names)
    assert list(tables) == [1, 2]
    np.testing.assert_array_equal(tables[2].to_numpy(), run.model.relation().double().numpy())
    assert not tables[1].equals(tables[2])


def test_a_history_without_relations_is_refused():
    run = methods.run("hps", problem(("kind", "big")), budget="smoke", progress=False)
    with pytest.raises(ValueError, match="no relations"):
        over_epochs(run.history, ["kind", "big"])


def test_related_tasks_stand_together():
    order = clustered(table({"ac": 0.4, "bd": 0.35, "ab": 0.1, "cd": 0.05}))
    assert {frozenset(order[:2]), frozenset(order[2:])} == {frozenset("ac"), frozenset("bd")}


def test_heat_maps_show_multiples_of_an_equal_share_in_one_order():
    first, last = table(dict.fromkeys(["ab", "ac", "ad", "bc", "bd", "cd"], 1 / 6)), table({"ac": 0.5, "bd": 0.5})
    figure = heat_maps({1: first, "end": last})
    one, other = figure.axes[:2]
    assert one.get_title() == "after epoch 1" and other.get_title() == "end"
    labels = [[text.get_text() for text in axis.get_xticklabels()] for axis in (one, other)]
    assert labels[0] == labels[1] and set(labels[0]) == set(TASKS)
    values = other.collections[0].get_array().filled(np.nan)
    assert np.nanmax(values) == 3.0 and np.isnan(np.diag(values.reshape(4, 4))).all()


def test_saliency_maps_stand_beside_the_image():
    saliency = {"big": torch.arange(8.0), "odd": -torch.ones(8)}
    figure = saliency_maps(torch.rand(1, 6, 6), saliency, (2, 2, 2))
    assert [axis.get_title() for axis in figure.axes] == ["image", "big", "odd"]
    np.testing.assert_allclose(figure.axes[1].images[1].get_array(), [[4.0, 6.0], [8.0, 10.0]])
    figures.show(figure, "a test")
