"""Training: one update (`updates`), the loop (`loop`), evaluation (`evaluation`), training in stages (`procedures`).

`own` is one object for a loop of one's own, `network` any network in it, `parts` its updates from several calls.
`state` is what a checkpoint keeps, `identity` what tells one training from another, `selection` the best epoch,
`samples` what a trained model did on every sample. Networks that adapt to a domain without labels: `adaptation` is
their step and their judge, `criteria` select among epochs, `aligning` and `adversaries` are the methods.
"""

from .adaptation import AdaptationStep, adapt, judge, judged, make_adaptation_step
from .criteria import criterion, oracle, watching
from .evaluation import Scores, directions, evaluate, split_losses, train_losses
from .loop import Run, fit, on_device, pick_device
from .own import Loop
from .procedures import Setting, close_harmful_gates, dsmtl_il, dsmtl_jl, guard, harmed, in_stages, train_once
from .samples import Samples, hash_data, measures, per_sample
from .selection import Selection
from .state import OtherTraining, TrainingDiverged
from .updates import Step, StrategyStep, autocast, make_optimizer, make_step

__all__ = ["AdaptationStep", "Loop", "OtherTraining", "Run", "Samples", "Scores", "Selection", "Setting", "Step",
           "StrategyStep", "TrainingDiverged", "adapt", "autocast", "close_harmful_gates", "criterion", "directions",
           "dsmtl_il", "dsmtl_jl", "evaluate", "fit", "guard", "harmed", "hash_data", "in_stages", "judge", "judged",
           "make_adaptation_step", "make_optimizer", "make_step", "measures", "on_device", "oracle", "per_sample",
           "pick_device", "split_losses", "train_losses", "train_once", "watching"]
