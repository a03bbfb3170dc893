"""The contract of a strategy: from task losses, and perhaps their gradients' Gram matrix, to weights.

Imports `files`. The engine measures, a strategy decides: it sees m numbers, or an m x m matrix, never
the model.
"""

import functools
import inspect
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor, nn

from ..files import derived_seed, same_source, unknown

NEEDS = ("losses", "gram", "module_grams", "gradients")
Number = float | int


class NonFinite(ArithmeticError):
    """A task's loss or gradient is NaN or infinite: `what` it is, whose (`task`), and its `value`."""

    what = "loss"

    def __init__(self, task: str, value: float):
        super().__init__(f"The {self.what} of task {task!r} is {value}.")
        self.task, self.value = task, value


class NonFiniteLoss(NonFinite):
    """A task's loss is NaN or infinite."""


class NonFiniteGradient(NonFinite):
    """A task's gradient is NaN or infinite, or too large for its square; `value` is its squared norm."""

    what = "squared gradient norm"


@dataclass
class TaskWeights:
    """How much each task counts in one update.

    shared: `(m,)` weights of the task gradients on shared parameters, or `(modules, m)`, one row a
        shared module; a zero row means that the module makes no step (its `.grad` is None). NaN for a
        strategy that gives a direction which no set of weights describes.
    heads: `(m,)` weights on the parameters that only one task reaches.
    """

    shared: Float64[Tensor, "m"] | Float64[Tensor, "modules m"]
    heads: Float64[Tensor, "m"]


class Strategy(nn.Module):
    """Base of all strategies: one update's task weights from what `needs` names.

    needs: "losses" (m numbers), "gram" (the m x m Gram matrix K of the task gradients on the shared
        parameters), "module_grams" (K of each shared module), "gradients" (the rows themselves).
    kind: "loss" for a way of weighting the losses, heads included; "gradient" for a way of combining
        the gradients of shared parameters. A method's name may hold one of each.

    A subclass defines `weights`, and `direction` if it needs gradients; its random choices come from
    `self.generator` alone, so that they are kept with a checkpoint and equal on every process. A
    strategy with parameters of its own writes their `.grad` in `weights`, in closed form, and names
    them in `param_groups`.

    Where weights "sum to m", m is the number of tasks that the step has and that are party to it.

    A task that reaches no shared parameter is no party to a combination of gradients: see `weights_among`. A task
    that does reach some, with a gradient of zero there, is a party: its loss cannot fall any further along these
    parameters, and what that means is part of a method's definition (MGDA then moves nothing).
    """

    needs = "losses"
    kind = "loss"
    looks_again = False  # True: the step computes the losses once more after the update, see `after_step`
    by_entry = False  # True: it remembers gradients entry by entry, which are the same in each step at parameters only
    zero_is_a_step = False  # True: a module with a zero row of weights gets a zero gradient in place of None

    _given: tuple[tuple[Any, ...], dict[str, Any]] = (), {}

    def __init_subclass__(cls, **keywords: Any):
        """Have each subclass note what it is made with, see `options`."""
        super().__init_subclass__(**keywords)
        if "__init__" in vars(cls):
            cls.__init__ = _noting(cls.__init__)

    def __init__(self):
        super().__init__()
        self.tasks: list[str] = []
        self.kinds: list[str] = []
        self.generator = torch.Generator()

    @property
    def m(self) -> int:
        """Number of tasks."""
        return len(self.tasks)

    @property
    def options(self) -> dict[str, Any]:
        """All options that this strategy was made with, defaults included."""
        arguments, keywords = self._given
        bound = inspect.signature(type(self)).bind_partial(*arguments, **keywords)
        bound.apply_defaults()
        return dict(bound.arguments)

    @property
    def remembers(self) -> bool:
        """Whether a step depends on steps before it, once bound: it keeps numbers, hears of epochs or looks again."""
        return bool(self.state_dict()) or self.looks_again or self.hears_of_epochs

    @property
    def hears_of_epochs(self) -> bool:
        """Whether `on_epoch_end` means anything to it, so that a loop must call it."""
        return type(self).on_epoch_end is not Strategy.on_epoch_end

    def bind(self, tasks: Sequence[Any], generator: torch.Generator | None = None) -> "Strategy":
        """Prepare for `tasks`, once, before the first step; buffers of length m are made here.

        tasks: names, or tasks with a `name` and a `kind`; what has only a name counts as classification.
        """
        self.tasks = [getattr(task, "name", task) for task in tasks]
        self.kinds = [getattr(task, "kind", "classification") for task in tasks]
        if generator is None:
            generator = torch.Generator().manual_seed(derived_seed(torch.initial_seed(), "strategy"))
        self.generator = generator
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        """This step's weights.

        losses: detached numbers, on the CPU.  gram: raw Gram matrix; normalise inside.
        present: which tasks the step has (None: all); an absent task gets weight zero and what the
            strategy remembers of it stays as it was.
        """
        raise TypeError(f"{type(self).__name__} must define weights(losses, gram, present).")

    def weights_among(self, reaching: Bool[Tensor, "modules m"] | None, losses: Float64[Tensor, "m"],
                      gram: Float64[Tensor, "*modules m m"] | None = None,
                      present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        """`weights` among the tasks that are party to what is combined; the engine asks here.

        reaching: which tasks reach which shared module at all (None: all reach all).
        The parties' weights are those that they would have without the others. A task of the step that is no party has
        weight zero on shared parameters (one if the strategy weighs losses), and its head its own gradient. If there
        is no party, nothing is combined, and all tasks of the step count as parties.
        """
        if self.needs == "losses" or reaching is None:
            return self.weights(losses, gram, present)
        here = all_present(losses, present)
        parties = here & self.parties(reaching)
        if not parties.any():
            parties = here
        found = self.weights(losses, gram, present if torch.equal(parties, here) else parties)
        others = (here & ~parties).double()
        shared = found.shared + others if self.kind == "loss" else found.shared
        return TaskWeights(shared * reaching if shared.dim() == 2 else shared, found.heads + others)

    def parties(self, reaching: Bool[Tensor, "modules m"]) -> Bool[Tensor, "m"]:
        """Who takes part: by default all tasks that reach some shared module."""
        return reaching.any(0)

    def direction(self, gradients: Float[Tensor, "m n"],
                  losses: Float64[Tensor, "m"] | None = None) -> Float[Tensor, "n"]:
        """The update direction itself; only for strategies that no set of weights describes.

        Called after `weights`, which then says how the heads are weighted. Absent tasks have zero rows.
        """
        raise TypeError(f"{type(self).__name__} has needs={self.needs!r}; only 'gradients' strategies give directions.")

    def after_step(self, losses_again: Float64[Tensor, "m"]) -> None:
        """Called after the update with the losses on the same batch, by strategies that set `looks_again`."""

    def on_epoch_end(self, mean_losses: Float64[Tensor, "m"]) -> None:
        """Called after each epoch with the epoch's mean losses (NaN for a task that never came)."""

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups of the strategy's own parameters: own learning rate, no weight decay."""
        return []


def _noting(init: Callable[..., None]) -> Callable[..., None]:
    """`init`, which first notes its arguments, unless the `init` of a subclass has done so."""
    @functools.wraps(init)
    def noting(self: Strategy, *arguments: Any, **keywords: Any) -> None:
        self.__dict__.setdefault("_given", (arguments, keywords))
        init(self, *arguments, **keywords)
    return noting


def all_present(losses: Tensor, present: Tensor | None, dtype: torch.dtype = torch.bool) -> Tensor:
    """`present`, or all true where it is None; as numbers zero and one in another `dtype`."""
    return torch.ones(len(losses), dtype=dtype) if present is None else present.to(dtype)


class GramStrategy(Strategy):
    """Base of the strategies that are a function from the Gram matrix to m numbers.

    A subclass defines `solve`, which sees the tasks of the step only. Heads keep their own gradients,
    unweighted: they are no party to a conflict on shared parameters. If all gradients are zero every
    weight gives the same direction, and equal weights are returned.
    Raises `NonFiniteGradient` for a Gram matrix with NaN or infinity.
    """

    needs = "gram"
    kind = "gradient"

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        check_finite(gram, self.tasks)
        present = all_present(losses, present)
        heads, shared = present.double(), present.double()
        if gram.any():
            here = present.nonzero().flatten()
            found = self.solve(gram[here][:, here].numpy(), losses[here].numpy(), here.numpy())
            shared[here] = torch.from_numpy(found)
        return TaskWeights(shared=shared, heads=heads)

    def solve(self, K: Float64[np.ndarray, "k k"], losses: Float64[np.ndarray, "k"],
              here: Int[np.ndarray, "k"]) -> Float64[np.ndarray, "k"]:
        """Weights of the k tasks of this step, whose places among all m are `here`; K is not zero."""
        raise TypeError(f"{type(self).__name__} must define solve(K, losses, here).")


class DirectionStrategy(Strategy):
    """Base of the strategies that no weights describe: a subclass defines `direction`, from the gradients themselves.

    Heads keep their own, unweighted gradients. `here` says which tasks the step has, for `direction` to leave out the
    others' rows, which are zero.
    """

    needs = "gradients"
    kind = "gradient"

    def bind(self, tasks: Sequence[Any], generator: torch.Generator | None = None) -> Strategy:
        super().bind(tasks, generator)
        self.here = torch.ones(self.m, dtype=torch.bool)
        return self

    def weights(self, losses: Float64[Tensor, "m"], gram: Float64[Tensor, "*modules m m"] | None = None,
                present: Bool[Tensor, "m"] | None = None) -> TaskWeights:
        self.here = all_present(losses, present)
        heads = self.here.double()
        return TaskWeights(shared=torch.full_like(heads, float("nan")), heads=heads)


def check_finite(gram: Float64[Tensor, "*modules m m"] | None, tasks: Sequence[str]) -> None:
    """Raise `NonFiniteGradient`, naming the first task with a NaN or infinite entry, and TypeError without a matrix."""
    if gram is None:
        raise TypeError("This strategy needs the Gram matrix of the task gradients; call weights(losses, gram).")
    if not torch.isfinite(gram).all():
        squares = gram.diagonal(dim1=-2, dim2=-1).reshape(-1, gram.shape[-1]).sum(0)
        bad = [t for t, value in enumerate(squares.tolist()) if not abs(value) < float("inf")]
        # Finite norms with an infinite product cannot come from gradients, but somebody may hand them in.
        t = bad[0] if bad else int((~torch.isfinite(gram)).reshape(-1, gram.shape[-1]).any(0).nonzero()[0])
        raise NonFiniteGradient(tasks[t] if tasks else f"number {t}", squares[t].item())


def check_not_negative(strategy: Strategy, losses: Float64[Tensor, "k"], tasks: Sequence[str]) -> None:
    """Raise ValueError, naming task and value, if a loss is below zero: for strategies that need it not to be.

    losses: of `tasks`, NaN where there is none.
    """
    for name, value in zip(tasks, losses.tolist(), strict=True):
        if value < 0:
            raise ValueError(f"{type(strategy).__name__} needs losses of zero or more, but that of task {name!r} is "
                             f"{value:.6g}. Add a constant to that loss, which changes no gradient, or use a strategy "
                             "that looks at gradients or differences of losses only.")


# --- registry ---------------------------------------------------------------------------------------

_REGISTRY: dict[str, Callable[..., Strategy]] = {}


def register(name: str) -> Callable:
    """Class decorator: make a strategy known to `make` as `name`. ValueError if another class has the name."""
    def add(strategy: Callable[..., Strategy]) -> Callable[..., Strategy]:
        if name in _REGISTRY and not same_source(_REGISTRY[name], strategy):
            raise ValueError(f"A strategy named {name!r} is there already; choose another name.")
        _REGISTRY[name] = strategy
        return strategy
    return add


def names() -> list[str]:
    """Names of all strategies, in the order in which they were registered."""
    return list(_REGISTRY)


def make(name: str, **options: Any) -> Strategy:
    """The strategy called `name`. Raises ValueError for unknown names and options, naming the known ones.

    >>> make("ew").needs
    'losses'
    """
    if name not in _REGISTRY:
        raise ValueError(unknown("strategy", name, _REGISTRY))
    parameters = inspect.signature(_REGISTRY[name]).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option not in parameters and not takes_any:
            known = unknown(f"option of strategy {name!r}", option, parameters)
            raise ValueError(known if parameters else f"Strategy {name!r} has no options; {option!r} was given.")
    return _REGISTRY[name](**options)


def one_of(option: str, value: str, known: Sequence[str]) -> str:
    """`value`, if it is one of the known choices of `option`; ValueError naming them if not."""
    if value not in known:
        raise ValueError(unknown(option, str(value), known))
    return value


def positive(option: str, value: Any) -> float:
    """`value`, if it is a positive number; ValueError if not."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not 0 < value < float("inf"):
        raise ValueError(f"{option} is {value!r}; it must be a positive number.")
    return float(value)


def per_task(option: str, given: Sequence[Number] | None, tasks: Sequence[str],
             default: Number) -> Float64[Tensor, "m"]:
    """One number a task: those given, or `default` for each. ValueError if there are not as many as tasks."""
    values = [default] * len(tasks) if given is None else given
    if len(values) != len(tasks):
        raise ValueError(f"{option} has {len(values)} numbers for {len(tasks)} tasks ({', '.join(tasks)}).")
    return torch.tensor(values, dtype=torch.float64)


def combine(strategy: Strategy | str, gradients: Float[Tensor, "m n"], losses: Float[Tensor, "m"] | None = None,
            generator: torch.Generator | None = None) -> Float64[Tensor, "n"]:
    """Apply a strategy on its own to m gradients, without a model: the direction it would take.

    gradients: one row a task.  losses: for strategies that look at them (default: ones).
    Computes in float64. Strategies that need Gram matrices by module see one module.

    >>> combine("ew", torch.tensor([[1.0, 0.0], [0.0, 2.0]])).tolist()
    [1.0, 2.0]
    """
    strategy = make(strategy) if isinstance(strategy, str) else strategy
    gradients = gradients.detach().double()
    m = len(gradients)
    if strategy.m != m:
        strategy.bind([f"task_{t}" for t in range(m)], generator)
    losses = torch.ones(m, dtype=torch.float64) if losses is None else losses.detach().double()
    gram = None if strategy.needs == "losses" else gradients @ gradients.T
    weights = strategy.weights(losses, gram[None] if strategy.needs == "module_grams" else gram).shared
    if strategy.needs == "gradients":
        return strategy.direction(gradients, losses)
    return (weights if weights.dim() == 1 else weights[0]) @ gradients
