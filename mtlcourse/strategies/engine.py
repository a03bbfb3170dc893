"""From m task losses to the gradients of one update.

Imports `files`, `strategies.base`, `strategies.gram`, `strategies.reach`, `strategies.rows`. The engine knows a
model only through the few attributes of `SharingModel`; it measures what the strategy needs, asks it for weights,
and fills `.grad`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
import torch._functorch.config
from jaxtyping import Bool, Float64
from torch import Tensor, nn

from ..files import unknown
from .base import NEEDS, NonFinite, NonFiniteGradient, NonFiniteLoss, Strategy, TaskWeights, make
from .gram import MEASURES, cosines
from .reach import Sharing, reach
from .rows import Rows, at_features, at_parameters, split_at_exits

# Compiled graphs may reuse saved tensors in the backward pass, which then can run only once; here it runs once a task.
# Set before anything can have been compiled, because changed later it would only switch off the warning.
torch._functorch.config.donated_buffer = False


@runtime_checkable
class SharingModel(Protocol):
    """What the engine needs to know of a model.

    What the graph says goes first: a task's own parameters that another task's loss reaches are shared. Parameters
    that neither list names learn too, unless the model names them in `architecture_parameters()`.
    """

    heads: Any
    exits: dict[str, list[Tensor]] | None

    def shared_modules(self) -> list[list[nn.Parameter]]: ...
    def task_parameters(self, task: str) -> list[nn.Parameter]: ...


class Engine:
    """One strategy at work on one model.

    model: anything with the attributes of `SharingModel`.  strategy: a `Strategy` or its name.
    at: "parameters" measures task gradients on the shared parameters, "features" on the shared
        representation of the whole batch where it ends (`model.exits`). That is cheaper (one pass through
        the trunk instead of m) and not the same. Tasks that leave at different places, or have inputs of
        their own, share no entry of the representation: their gradients are orthogonal there.
    diagnostics: measure gradients even for a strategy that looks at losses only, to fill `seen`.

    What a step costs, if heads are small, forward = 1 and backward = 2: for strategies that need losses
    and at="features" 3, for the others `1 + 2m`, because m error signals must pass through the trunk.

    The model is asked once, at the first step, which parameters are shared; after freezing or unfreezing some, make
    a new engine. Where gradients are measured, each step's graph is looked at besides. A parameter that the model
    calls one task's own, such as one of its head, is shared if the losses of two tasks reach it: it makes a shared
    module behind those that the model names. A task that reaches no shared parameter is no party to a combination.

    losses: after `backward`, the task losses as float64 numbers on the CPU, NaN where absent.
    Raises ValueError when strategy and model cannot be combined.
    """

    def __init__(self, model: SharingModel, strategy: Strategy | str = "ew", at: str = "parameters",
                 diagnostics: bool = False):
        if at not in ("parameters", "features"):
            raise ValueError(f"at={at!r} is not known; use 'parameters' or 'features'.")
        strategy = make(strategy) if isinstance(strategy, str) else strategy
        if strategy.needs not in NEEDS:
            raise ValueError(unknown(f"`needs` of {type(strategy).__name__}", str(strategy.needs), NEEDS))
        self.model, self.strategy, self.at, self.diagnostics = model, strategy, at, diagnostics
        self.tasks = list(model.heads)
        if not self.tasks:
            raise ValueError(f"{type(model).__name__} has no heads, so there is no task to learn.")
        self._measures = strategy.needs != "losses" or diagnostics
        if at == "features" and strategy.needs == "module_grams":
            raise ValueError(f"{type(strategy).__name__} looks at the gradients of single modules, which a "
                             "representation does not have; use at='parameters'.")
        if strategy.tasks != self.tasks:
            known = list(getattr(model, "tasks", []))  # tasks tell their kind, names do not
            strategy.bind(known if [getattr(task, "name", None) for task in known] == self.tasks else self.tasks)
        self.losses: Tensor | None = None
        self._grams: Float64[Tensor, "modules m m"] | None = None
        self._reaching: Bool[Tensor, "modules m"] | None = None

    @property
    def seen(self) -> dict[str, Any]:
        """What the last `backward` measured.

        losses: `(m,)`. If gradients were measured also gram: `(m, m)`; cosines: `(m, m)`; cosine,
        conflict_rate, magnitude_similarity, condition_number: numbers over the tasks of the step that
        reach a shared parameter, see `strategies.gram`; and the same for each shared module, input side first, over
        the tasks that reach it: module_grams, `(modules, m, m)`, module_cosines, module_cosine,
        module_conflict_rate, ...  With at="features" the representation counts as one module.
        """
        seen: dict[str, Any] = {"losses": self.losses}
        if self._grams is not None:
            gram, modules = self._grams.sum(0), list(zip(self._grams, self._reaching, strict=True))
            seen |= {"gram": gram, "module_grams": self._grams, "cosines": cosines(gram),
                     "module_cosines": cosines(self._grams)}
            for name, measure in MEASURES.items():
                seen[name] = measure(among(gram, self._reaching.any(0)))
                found = [measure(among(one, reached)) for one, reached in modules]
                seen[f"module_{name}"] = torch.stack(found) if found else gram.new_zeros(0)
        return seen

    def backward(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None = None) -> TaskWeights:
        """Add this step's gradients to `.grad` and return the weights that were used.

        losses: `{task: scalar}`, or `{task: (samples that have the task,)}`, which is averaged; tasks
            that are not named have no part in the step.
        auxiliary: a further scalar loss, added as it is.
        Raises `NonFiniteLoss` and `NonFiniteGradient`, KeyError for an unknown task, ValueError for losses that
        cannot be differentiated and when there is none at all. After an error every `.grad` is what it was before.
        """
        scalars = self._scalars(losses)
        for name, loss in scalars.items():
            if not loss.requires_grad:
                raise ValueError(f"The loss of task {name!r} does not depend on any trainable parameter; was it "
                                 "detached, computed under no_grad, or is everything frozen?")
        with _clear_error(), added_to([*self._learning, *self.strategy.parameters()]):
            return (self._combine if self._measures else self._weigh)(scalars, auxiliary)

    def look_again(self, losses: Mapping[str, Tensor]) -> None:
        """Hand the losses of the same batch after the update to a strategy that asked for them."""
        before = self.losses
        scalars = self._scalars(losses)
        self._look(scalars, torch.stack(list(scalars.values())).detach().double())
        self.strategy.after_step(self.losses)
        self.losses = before

    # --- losses -----------------------------------------------------------------------------------------

    def _scalars(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The losses as scalars, in the order of the model's tasks."""
        strange = set(losses) - set(self.tasks)
        if strange:
            raise KeyError(f"Losses for {sorted(strange)}, but the model's tasks are {self.tasks}.")
        scalars = {}
        for name in self.tasks:
            if name in losses:
                if losses[name].dim() > 1:
                    raise ValueError(f"The loss of task {name!r} has shape {tuple(losses[name].shape)}; give one "
                                     "number, or one a sample.")
                scalars[name] = losses[name] if losses[name].dim() == 0 else losses[name].mean()
        if not scalars:
            raise ValueError(f"No losses in this step; the model's tasks are {self.tasks}.")
        return scalars

    def _look(self, scalars: Mapping[str, Tensor], numbers: Tensor) -> tuple[Tensor, Bool[Tensor, "m"] | None]:
        """The step's one copy to the host: `numbers`, the losses first; these checked and laid out in task order."""
        host = numbers.cpu()
        for name, value in zip(scalars, host.tolist(), strict=False):
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(name, value)
        if len(scalars) == len(self.tasks):
            self.losses, present = host[: len(scalars)], None
        else:
            present = torch.tensor([name in scalars for name in self.tasks])
            self.losses = torch.full((len(self.tasks),), float("nan"), dtype=torch.float64)
            self.losses[present] = host[: len(scalars)]
        return host[len(scalars) :], present

    def _weigh(self, scalars: dict[str, Tensor], auxiliary: Tensor | None) -> TaskWeights:
        """Strategies that need losses only: one ordinary backward pass of the weighted sum."""
        stacked = torch.stack(list(scalars.values()))
        _, present = self._look(scalars, stacked.detach().double())
        self._grams = None
        weights = self.strategy.weights(self.losses, None, present)
        if weights.shared.dim() != 1:
            raise ValueError(f"{type(self.strategy).__name__} gives weights by module; it must say "
                             "needs='module_grams'.")
        rows = [self.tasks.index(name) for name in scalars]
        on_heads = (stacked * weights.heads[rows].to(stacked)).sum()
        shared: list[nn.Parameter] = []
        if not torch.equal(weights.shared, weights.heads):
            sharing = self._sharing.as_reached(reach(scalars).whole, self._trained)
            shared = [parameter for group in sharing.modules for parameter in group]
        if not shared:
            (on_heads if auxiliary is None else on_heads + auxiliary).backward()
        else:
            # The first call stops at the heads: only the tasks' own parameters are asked for.
            own = [parameter for name in scalars for parameter in sharing.own[name]]
            if own:
                on_heads.backward(inputs=own, retain_graph=True)
            on_shared = (stacked * weights.shared[rows].to(stacked)).sum()
            on_shared.backward(inputs=shared, retain_graph=auxiliary is not None)
            if auxiliary is not None:
                auxiliary.backward()
        self._check_written(scalars, auxiliary)
        return weights

    # --- what the model says of itself ------------------------------------------------------------------

    @cached_property
    def _sharing(self) -> Sharing:
        """The shared parameters by module, and each task's own, as the model has them."""
        return Sharing(self.model.shared_modules(), {name: self.model.task_parameters(name) for name in self.tasks})

    @cached_property
    def _learning(self) -> list[nn.Parameter]:
        """All of the model's parameters."""
        if isinstance(self.model, nn.Module):
            return list(self.model.parameters())
        sharing = self._sharing
        return [parameter for group in (*sharing.modules, *sharing.own.values()) for parameter in group]

    @cached_property
    def _trained(self) -> set[int]:
        """Ids of the parameters that task losses train; those of an architecture are for somebody else."""
        others = {id(parameter) for parameter in getattr(self.model, "architecture_parameters", list)()}
        return {id(parameter) for parameter in self._learning} - others

    # --- gradients --------------------------------------------------------------------------------------

    def _combine(self, scalars: dict[str, Tensor], auxiliary: Tensor | None) -> TaskWeights:
        """Measure each task's gradient, ask the strategy, write the combination."""
        here = torch.tensor([self.tasks.index(name) for name in scalars])
        reached = reach(scalars, self.model.exits)
        sharing = self._sharing.as_reached(reached.whole, self._trained)
        cut = split_at_exits(scalars, self.model.exits, reached.near, sharing)
        if self.at == "features":
            rows = at_features(cut, sharing.modules)
        else:
            rows = at_parameters(cut, sharing.modules, keep_graph=auxiliary is not None)
        losses = torch.stack([loss.detach().double() for loss in scalars.values()])
        host, present = self._look(scalars, torch.cat([losses, rows.grams().flatten()]))
        self._grams = self._laid_out(host.view(-1, len(scalars), len(scalars)), here)
        reaching = rows.reaching()
        self._reaching = reaching.new_zeros(len(reaching), len(self.tasks)).index_copy(1, here, reaching)
        self._check_gradients()

        gram = {"losses": None, "gradients": None, "gram": self._grams.sum(0), "module_grams": self._grams}
        weights = self.strategy.weights_among(self._reaching, self.losses, gram[self.strategy.needs], present)
        direction = self._direction(rows, here) if self.strategy.needs == "gradients" else None
        still = rows.write(weights.shared.index_select(-1, here), direction, keep_graph=auxiliary is not None)
        cut.write_own(weights.heads[here])
        if auxiliary is not None:
            auxiliary.backward()
            self._check_written(scalars, auxiliary)
        for parameter in still:  # no step: neither momentum nor decay shall move a module with zero weights
            parameter.grad = torch.zeros_like(parameter) if self.strategy.zero_is_a_step else None
        return weights

    def _direction(self, rows: Rows, here: Tensor) -> Tensor:
        gradients = rows.matrix()
        if len(here) < len(self.tasks):
            everyone = gradients.new_zeros(len(self.tasks), gradients.shape[1])
            gradients = everyone.index_copy(0, here.to(gradients.device), gradients)
        return self.strategy.direction(gradients, self.losses)

    def _laid_out(self, grams: Tensor, here: Tensor) -> Float64[Tensor, "modules m m"]:
        """The Gram matrices of the present tasks among all tasks, zero where one is absent."""
        m = len(self.tasks)
        if len(here) == m:
            return grams
        full = grams.new_zeros(len(grams), m, m)
        full[:, here[:, None], here] = grams
        return full

    def _check_gradients(self) -> None:
        squares = self._grams.sum(0).diagonal()
        for name, value in zip(self.tasks, squares.tolist(), strict=True):
            if not value < float("inf"):
                raise NonFiniteGradient(name, value)

    def _check_written(self, scalars: Mapping[str, Tensor], auxiliary: Tensor | None) -> None:
        """One number for all gradients: only if it is not finite, look for whose they are."""
        written = [p for p in self._learning if p.grad is not None]
        gradients = [p.grad.coalesce().values() if p.grad.is_sparse else p.grad for p in written]
        norm = torch.nn.utils.get_total_norm(gradients).item()
        if not norm < float("inf"):
            bad = [id(p) for p, gradient in zip(written, gradients, strict=True) if not torch.isfinite(gradient).all()]
            if bad:  # and not only large numbers, whose squares are infinite
                raise self._culprit(bad, norm, scalars, auxiliary)

    def _culprit(self, bad: Sequence[int], value: float, scalars: Mapping[str, Tensor],
                 auxiliary: Tensor | None) -> NonFinite:
        """Whose gradients are not finite in the parameters `bad` (ids), of which one or more reach each.

        Who is alone in reaching one of them has it for certain. If nobody is, all remain who reach every one.
        """
        if auxiliary is not None and not torch.isfinite(auxiliary):
            return NonFiniteLoss("auxiliary", auxiliary.item())
        parts = dict(scalars) if auxiliary is None else {**scalars, "auxiliary": auxiliary}
        reached = reach(parts).whole
        users = [[name for name in parts if key in reached[name]] for key in bad]
        certain = [name for name in parts if [name] in users]
        possible = certain[:1] or [name for name in parts if all(name in some for some in users)] or list(parts)
        return NonFiniteGradient(" or ".join(possible), value)


def among(gram: Float64[Tensor, "m m"], tasks: Bool[Tensor, "m"]) -> Float64[Tensor, "k k"]:
    """The rows and columns of `tasks`."""
    return gram[tasks][:, tasks]


@contextlib.contextmanager
def added_to(parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """What is written to `.grad` inside is added, at the end, to what is there; after an error all is as before."""
    earlier = [(parameter, parameter.grad) for parameter in parameters if parameter.grad is not None]
    for parameter, _ in earlier:
        parameter.grad = None
    try:
        yield
    except BaseException:
        for parameter in parameters:
            parameter.grad = None
        for parameter, gradient in earlier:
            parameter.grad = gradient
        raise
    for parameter, gradient in earlier:
        if parameter.grad is not None:
            gradient += parameter.grad
        parameter.grad = gradient


@contextlib.contextmanager
def _clear_error() -> Iterator[None]:
    """Say in this project's terms what autograd means by a graph that is gone, or that it cannot pass twice."""
    try:
        yield
    except RuntimeError as error:
        if "double backward" in str(error):
            raise RuntimeError("A loss contains gradients (it was made with create_graph=True), and a compiled model "
                               "cannot give gradients of gradients. Train this model with compile=False.") from error
        if "second time" not in str(error):
            raise
        raise RuntimeError("The graph behind these losses is gone: backward was called on them before. Compute the "
                           "predictions and losses anew for each step.") from error


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
                "would stay at its start. In a loop of your own, make one step object before it, "
                f"`step = training.make_step(tasks, model, {strategy!r})`, then `step.backward(losses)` and "
                "`step.update()` for each batch, `step.end_epoch()` after each epoch.")
        engine.strategy.generator = torch.default_generator
    return engine.backward(losses)
