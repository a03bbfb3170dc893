"""Training: one update (`updates`), the loop and the evaluation (`loop`), training in stages (`procedures`)."""

from .loop import (
    Run,
    Scores,
    TrainingDiverged,
    directions,
    evaluate,
    fit,
    hash_test_data,
    mean_relative_change,
    on_device,
    pick_device,
    train_losses,
)
from .procedures import Setting, close_harmful_gates, dsmtl_il, dsmtl_jl, in_stages, train_once
from .updates import Step, StrategyStep, autocast, make_optimizer, make_step

__all__ = ["Run", "Scores", "Setting", "Step", "StrategyStep", "TrainingDiverged", "autocast", "close_harmful_gates",
           "directions", "dsmtl_il", "dsmtl_jl", "evaluate", "fit", "hash_test_data", "in_stages", "make_optimizer",
           "make_step", "mean_relative_change", "on_device", "pick_device", "train_losses", "train_once"]
