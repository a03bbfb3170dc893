"""A measure of a whole model, which no sum over samples is: attacks on it, its size. Ground floor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Probe:
    """Extra measures of a trained model, taken on the test split with everything else.

    function: `function(model, problem) -> {task: {name: value}}`; the model is in evaluation mode and no gradients are
        kept. It may leave a task out.
    higher_is_better: `{name: True where more is better}`, for every name that the function gives. A name means the same
        for every task, and is none of a task's own measures, nor "loss".
    """

    function: Callable[[Any, Any], Mapping[str, Mapping[str, float]]]
    higher_is_better: Mapping[str, bool]

    def __call__(self, model: Any, problem: Any) -> Mapping[str, Mapping[str, float]]:
        return self.function(model, problem)
