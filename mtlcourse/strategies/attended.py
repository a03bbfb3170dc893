"""Whether the loop around an engine does its part, noticed at the next step. Imports `strategies.base`.

A strategy that learns numbers of its own needs an optimiser for them, and one that looks at the losses once more has to
be shown them. A loop that does neither would train on, with weights that stay at their start.
"""

from collections.abc import Iterable, Iterator, Sequence

from torch import Tensor, nn

from .base import Strategy

Held = tuple[nn.Parameter, int, Tensor]  # a parameter, how often it had been written to, and its value


class Attended:
    """What there was after a step, for comparison before the next.

    strategy: bound already.

    An engine sees no optimiser. It sees that the model has moved since its last step, and that none of the strategy's
    numbers has, though they had gradients other than zero. (Who measures without training, or adds up several steps
    for one update, moves nothing in between.) `showed` is called when the strategy has looked again.
    """

    def __init__(self, strategy: Strategy):
        self.strategy, self.shown = strategy, False
        self.asks = bool(learned(strategy)) or strategy.looks_again  # by far most strategies ask for nothing
        self.model: list[Held] = []
        self.own: list[Held] = []

    def check(self) -> None:
        """Raise RuntimeError where the model has moved since the last step and what the strategy needs was not done."""
        if not self.model or not _moved(self.model):
            return
        name = type(self.strategy).__name__
        if self.strategy.looks_again and not self.shown:
            raise RuntimeError(f"{name} looks at the losses of the same batch once more after each update, and was not "
                               f"shown them. Call engine.look_again(losses) after the optimiser's step; training.Loop "
                               "and training.make_step take again=function for it.")
        there = {id(parameter) for parameter in learned(self.strategy)}  # those of before, unless bound anew
        if self.own and all(id(parameter) in there for parameter, _, _ in self.own) and not _moved(self.own):
            raise RuntimeError(f"{name} learns numbers of its own, and nobody optimises them: the model was updated "
                               "since the last step, they were not, so the weights would stay as they are for ever. "
                               "Take training.Loop or training.make_step, which see to it, or add the groups of "
                               "engine.strategy.param_groups() to the optimiser with add_param_group.")

    def note(self, learning: Sequence[nn.Parameter]) -> None:
        """Keep what there is after a step: all that the strategy learns, and the model's smallest parameter."""
        if self.asks:
            self.shown, self.own = False, [_held(parameter) for parameter in _with_gradients(learned(self.strategy))]
            smallest = next(_with_gradients(sorted(learning, key=Tensor.numel)), None)
            self.model = [] if smallest is None else [_held(smallest)]

    def showed(self) -> None:
        self.shown = True


def learned(strategy: Strategy) -> list[nn.Parameter]:
    """What the strategy learns by the loop's optimiser; other parameters are for somebody else, as an upper level."""
    return [parameter for group in strategy.param_groups() for parameter in group["params"]]


def _with_gradients(parameters: Iterable[nn.Parameter]) -> Iterator[nn.Parameter]:
    """Those that a step has reason to move."""
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and (gradient.coalesce().values() if gradient.is_sparse else gradient).any():
            yield parameter


def _held(parameter: nn.Parameter) -> Held:
    return parameter, parameter._version, parameter.detach().clone()


def _moved(held: Sequence[Held]) -> bool:
    """Whether any was written to, be it with the same value, or has another value: fused steps leave no other trace."""
    return any(parameter._version != version or not parameter.equal(value) for parameter, version, value in held)
