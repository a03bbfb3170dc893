"""Search, then retrain: the procedure of the searches whose supernets say themselves what was found.

Imports `files`, `models`, `procedures`, `strategies`, `tasks`, `training`, `updates`, `search.bilevel`,
`search.searching`.
"""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ...files import seed_everything
from ...models import MTLModel
from ...strategies import make
from ...tasks import Batch, Problem
from ...training import Run
from ...training.procedures import Setting, in_stages
from ...training.updates import StrategyStep
from ..bilevel import Loss, summed
from ..searching import search, settings_of


@runtime_checkable
class Searched(Protocol):
    """What a supernet has besides what every sharing architecture has.

    prepare: is told how many epochs there are, and how many of them the weights learn alone, for its schedules.
    regularizer: what the upper level minimises besides the losses; it must not depend on the weights.
    learned: the result as plain data.  discrete: the result as a model, untrained; with the `learned` of another
        search in such a supernet, that one's, which is how a stored run gets its model again.
    """

    def architecture_parameters(self) -> list[nn.Parameter]: ...
    def prepare(self, epochs: int, warm_up: int) -> None: ...
    def regularizer(self) -> Tensor: ...
    def learned(self) -> dict[str, Any]: ...
    def discrete(self, problem: Problem, learned: Mapping[str, Any] | None = None) -> MTLModel: ...


def search_and_retrain(problem: Problem, model: Searched, strategy: Any, setting: Setting, *, rate: float = 1.0,
                       warm_up: float = 0.0, share: float = 0.5, order: str = "first") -> Run:
    """Search in `model`, make the result discrete, train that from scratch on the whole training split.

    strategy: of retraining; the search weighs tasks equally.
    rate: learning rate of the architecture parameters, as a multiple of that of the weights.
    warm_up: share of the epochs (rounded) in which only weights learn; never all of them.
    share: of the training split, for the architecture parameters.  order: see `BilevelStep`.
    Each of the two stages takes the budget's epochs. In the history, stage "search" has the relaxed model's scores
    and its `report()`, stage "retrain" the scores of the discrete model.
    """
    settings = settings_of(setting)
    warm = min(round(warm_up * settings["epochs"]), settings["epochs"] - 1)
    model.prepare(settings["epochs"], warm)

    def objective(step: StrategyStep) -> Loss:
        loss = summed(step)

        def with_regularizer(batch: Batch) -> Tensor:
            return loss(batch) + model.regularizer() / batch.shares
        return with_regularizer

    stages = {"search": search(problem, model, make("ew"), setting, upper=model.architecture_parameters(),
                               objective=objective, order=order, architecture_lr=rate * settings["lr"], share=share,
                               warm_up=warm)}
    seed_everything(setting.seed)
    stages["retrain"] = setting.fit(problem, model.discrete(problem), strategy, "retrain")
    run = in_stages(stages)
    run.learned = model.learned()
    return run
