"""The untrained model of a stored run, made again from the run's configuration and what it learned.

Imports `data`, `methods`, `models`. Nothing is unpickled, no data is read: a problem is described, and a method is
built as `methods.run` builds it. A model that holds more than its method's name says, as a search's result, has it from
`Run.learned`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from . import data, methods, models


def described(config: Mapping[str, Any]) -> Any:
    """The problem of a run without its data, with the encoder that it had when the run was made."""
    part = methods.parse_part(config["problem"])
    problem = data.describe(part.name, **part.options)
    return dataclasses.replace(problem, encoder=config["settings"]["encoder"])


def rebuild(config: Mapping[str, Any], learned: Mapping[str, Any]) -> nn.Module:
    """The model that a run has trained, with weights by lot, in evaluation mode.

    config: as `runs.configuration` makes it.  learned: of the run.
    A method's model that has `discrete(problem, learned)` gives the one that its search ended in; one with a guard is
    a `Fallback` to the single-task networks of the tasks in `learned["guarded"]`. All others are as they were built.
    Torch's random numbers go on as if nothing had been drawn.
    Raises what `data.describe` and `methods.build` raise, KeyError for a `learned` that does not say what was found.
    """
    problem = described(config)
    _, guard, own = methods.taken_apart(methods.parse(config["method"])[0])
    with torch.random.fork_rng(devices=[]):
        model = methods.build(config["method"], problem)
        if hasattr(model, "discrete"):
            model = model.discrete(problem, learned)
        if guard:
            model = models.Fallback(model, models.STL(problem, own.options.get("encoder")), learned["guarded"])
    return model.eval()
