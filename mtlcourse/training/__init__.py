"""Training: one update (`updates`), the loop and the evaluation (`loop`), training in stages (`procedures`).

`state` is what a checkpoint keeps, `identity` what tells one training from another, `selection` the best epoch.
"""

from .loop import (
    Run,
    Scores,
    directions,
    evaluate,
    fit,
    hash_test_data,
    on_device,
    pick_device,
    train_losses,
)
from .procedures import Setting, close_harmful_gates, dsmtl_il, dsmtl_jl, in_stages, train_once
from .selection import Selection
from .state import OtherTraining, TrainingDiverged
from .updates import Step, StrategyStep, autocast, make_optimizer, make_step

__all__ = ["OtherTraining", "Run", "Scores", "Selection", "Setting", "Step", "StrategyStep", "TrainingDiverged",
           "autocast", "close_harmful_gates", "directions", "dsmtl_il", "dsmtl_jl", "evaluate", "fit",
           "hash_test_data", "in_stages", "make_optimizer", "make_step", "on_device", "pick_device", "train_losses",
           "train_once"]
