"""One backward pass without an engine to keep. Imports `strategies.base`, `strategies.engine`, `strategies.known`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from .base import Strategy, TaskWeights
from .engine import Engine
from .known import SharingModel


def backward(losses: Mapping[str, Tensor], model: SharingModel, strategy: Strategy | str = "ew",
             at: str = "parameters") -> TaskWeights:
    """`Engine(model, strategy, at).backward(losses)`, for one step, or for a loop with a strategy that keeps nothing.

    A name makes a new strategy in each call, with torch's default generator for its random choices. Raises ValueError
    for the name of one that would have to remember the steps before, and what `Engine` raises.
    """
    engine = Engine(model, strategy, at)
    if isinstance(strategy, str):
        if engine.strategy.remembers:
            raise ValueError(
                f"Strategy {strategy!r} remembers earlier steps, and by its name each call makes a new one, which "
                "would stay at its start. In a loop of your own, make one object before it: training.Loop, or "
                f"`step = training.make_step(tasks, model, {strategy!r})`, then `step.backward(losses)` and "
                "`step.update()` for each batch, `step.end_epoch()` after each epoch.")
        engine.strategy.generator = torch.default_generator
    return engine.backward(losses)
