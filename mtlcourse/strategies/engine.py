"""From m task losses to the gradients of one update.

Imports `files` and the files of this folder from `attended` to `written`. The engine knows a
model only through the few attributes of `SharingModel`; it measures what the strategy needs, asks it for weights,
and fills `.grad`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch._functorch.config
from jaxtyping import Bool, Float64, Int
from torch import Tensor, nn

from ..files import unknown
from .attended import Attended
from .base import NEEDS, NonFiniteGradient, NonFiniteLoss, Strategy, TaskWeights, make
from .equal import EqualWeighting
from .gram import MEASURES, among, cosines
from .known import Known, SharingModel
from .reach import leaves_of
from .rows import Rows, at_features, at_parameters, split_at_exits
from .shares import Measured, refuse_wrapped
from .written import AddedTo, check_written, clear_error

# Compiled graphs may reuse saved tensors in the backward pass, which then can run only once; here it runs once a task.
# Set before anything can have been compiled, because changed later it would only switch off the warning.
torch._functorch.config.donated_buffer = False


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

    The model is asked once, at the first step, which parameters are shared; after freezing or unfreezing some, call
    `ask_again()`. Where gradients are measured, each step's graph is looked at besides. A parameter that the model
    calls one task's own, such as one of its head, is shared if the losses of two tasks reach it: it makes a shared
    module behind those that the model names. A task that reaches no shared parameter is no party to a combination.

    A batch may come in shares that know its counts (`Batch.parts`), one after the other or in several processes. What
    they measure adds up, and the strategy decides once, on the sums. What is summed over processes, by `total`:

        what is measured   before the decision              after it
        losses only        losses                           .grad
        at="parameters"    losses, rows                     .grad of the tasks' own parameters
        at="features"      losses, local Gram matrices      .grad

    total: see `training.distributed`; None for one process.  scale: what losses are multiplied by, a power of two, so
        that gradients fit into half precision; all that is measured and written is divided by it.
    losses: after `backward`, the task losses as float64 numbers on the CPU, NaN where absent.  told: those of the
        tasks that came, by name.
    Raises ValueError when strategy and model cannot be combined.
    """

    def __init__(self, model: SharingModel, strategy: Strategy | str = "ew", at: str = "parameters",
                 diagnostics: bool = False, total: Any = None):
        refuse_wrapped(model)
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
        if at == "features" and (strategy.needs == "module_grams" or strategy.by_entry):
            raise ValueError(f"{type(strategy).__name__} looks at the gradients of single modules, or of earlier "
                             "steps, which a representation does not have; use at='parameters'.")
        if strategy.tasks != self.tasks:
            known = list(getattr(model, "tasks", []))  # tasks tell their kind, names do not
            strategy.bind(known if [getattr(task, "name", None) for task in known] == self.tasks else self.tasks)
        self.total, self.scale, self.known = total, 1.0, Known(model, self.tasks, total)
        if self.known.several:
            self.check_shares()
        self.losses: Tensor | None = None
        self.told: dict[str, float] = {}
        self._everyone = torch.arange(len(self.tasks))
        self._owns = any(True for _ in strategy.parameters())
        self.attended = Attended(strategy)
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
        cannot be differentiated and when there is none at all, RuntimeError where the loop neglects the strategy, see
        `Attended`. After an error every `.grad` is what it was before.
        """
        return self.decide(self.measure(losses, auxiliary, keep_graph=False))

    def measure(self, losses: Mapping[str, Tensor], auxiliary: Tensor | None = None,
                keep_graph: bool = True) -> Measured:
        """What the losses of a batch, or of a share of it, measure; `.grad` and the strategy stay as they are.

        keep_graph: leave the graph as it is, for what `decide` may be given.  Raises what `backward` raises.
        """
        scalars = self._scalars(losses)
        for name, loss in scalars.items():
            if not loss.requires_grad:
                raise ValueError(f"The loss of task {name!r} does not depend on any trainable parameter; was it "
                                 "detached, computed under no_grad, or is everything frozen?")
        auxiliary = self._scaled(auxiliary)
        if not self._measures:
            vector = torch.stack(list(scalars.values()))
            return Measured(scalars, vector.detach().double(), auxiliary, self._scaled(vector))
        with clear_error():
            return self._rows({name: self._scaled(loss) for name, loss in scalars.items()}, auxiliary, keep_graph)

    def decide(self, measured: Measured, auxiliary: Tensor | None = None) -> TaskWeights:
        """Ask the strategy, once for all shares in `measured`, and add the gradients to `.grad`; returns the weights.

        auxiliary: one more loss, if `measure` was not given it.  Raises what `backward` raises.
        """
        if auxiliary is not None:
            measured = replace(measured, auxiliary=self._scaled(auxiliary))
        shares = [share for share in (measured, *measured.others) if not share.passed]
        return self._written(lambda: self._finish(measured, shares), begun=measured.passed)

    @property
    def _at_once(self) -> bool:
        """Whether a share needs no graph once it is measured: at parameters, and with equal weights."""
        return self.at == "parameters" if self._measures else isinstance(self.strategy, EqualWeighting)

    def gather(self, share: Measured, earlier: Measured | None = None) -> Measured:
        """`share` added to `earlier` ones of the same batch, for `decide`; `.grad` is empty before the first.

        At parameters, and with equal weights, the graph goes: what it gives `.grad` whatever is decided is added now.
        Else all shares keep theirs until the decision.
        """
        if self._at_once:
            ones = torch.ones(len(self.tasks), dtype=torch.float64)
            with clear_error():
                self._pass(share, TaskWeights(ones, ones))
            share.passed = True
        if earlier is None:
            return share
        earlier.add(share)
        if share.passed:
            earlier.others.clear()
        return earlier

    def accumulate(self, shares: Callable[[bool], Iterable[tuple[Mapping[str, Tensor], Tensor | None]]]) -> TaskWeights:
        """As `backward`, for a batch that comes in shares of which no two need be in memory at a time.

        shares: `shares(True)` gives losses and auxiliary loss of one share after the other, `shares(False)` losses
            without graph. At parameters, and with equal weights, one pass is enough. Else there is one for losses or
            Gram matrices, and one more with the weights, in which chance must be the same.
        """
        self.check_shares()

        def measured() -> Iterator[Measured]:
            for losses, auxiliary in shares(True):
                yield self.measure(losses, auxiliary, keep_graph=False)

        def fill() -> TaskWeights:
            if self._at_once:
                first = None
                for share in measured():
                    first = self.gather(share, first)
                return self._finish(first, [])
            if self._measures:
                numbers = [share.numbers() for share in measured()]
            else:
                with torch.no_grad():
                    scalars = [self._scalars(losses) for losses, _ in shares(False)]
                    numbers = [Measured(some, torch.stack(list(some.values())).double()) for some in scalars]
            for share in numbers[1:]:
                numbers[0].add(share)
            return self._finish(numbers[0], measured())

        return self._written(fill)

    def look_again(self, losses: Mapping[str, Tensor]) -> None:
        """Hand the losses of the same batch after the update to a strategy that asked for them."""
        before = self.losses, self.told
        scalars = self._scalars(losses)
        losses = torch.stack(list(scalars.values())).detach().double()
        if self.known.several:
            self.total([losses])
        self._look(scalars, losses)
        self.strategy.after_step(self.losses)
        self.losses, self.told = before
        self.attended.showed()

    def ask_again(self) -> None:
        """Ask the model anew, at the next step, which parameters it has and which are shared."""
        self.known.forget()

    def _written(self, fill: Callable[[], TaskWeights], begun: bool = False) -> TaskWeights:
        """Have `fill` write this step's gradients.  begun: part of them is in `.grad` already."""
        self.attended.check()
        written = [*self.known.learning, *self.strategy.parameters()] if self._owns else self.known.learning
        with clear_error(), AddedTo([] if begun else written):
            weights = fill()
        self.attended.note(self.known.learning)
        return weights

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

    def _look(self, scalars: Mapping[str, Tensor], losses: Float64[Tensor, "k"]) -> Bool[Tensor, "m"] | None:
        """Check the losses, which are on the host, and lay them out in task order; which tasks there are, None: all."""
        self.told = dict(zip(scalars, losses.tolist(), strict=True))
        for name, value in self.told.items():
            if not abs(value) < float("inf"):
                raise NonFiniteLoss(name, value)
        if len(losses) == len(self.tasks):
            self.losses = losses
            return None
        present = torch.tensor([name in scalars for name in self.tasks])
        self.losses = torch.full((len(self.tasks),), float("nan"), dtype=torch.float64)
        self.losses[present] = losses
        return present

    def _places(self, scalars: Mapping[str, Tensor]) -> Int[Tensor, "k"]:
        """Where the tasks of a step are among all."""
        if len(scalars) == len(self.tasks):
            return self._everyone
        return torch.tensor([self.tasks.index(name) for name in scalars])

    def _scaled(self, loss: Any) -> Any:
        if loss is None or self.scale == 1:
            return loss
        return loss.to(torch.promote_types(loss.dtype, torch.float32)) * self.scale

    # --- gradients --------------------------------------------------------------------------------------

    def _rows(self, scalars: dict[str, Tensor], auxiliary: Tensor | None, keep_graph: bool) -> Measured:
        """Each task's gradient."""
        reached = self.known.reached(scalars, auxiliary)
        sharing = self.known.sharing_in(reached)
        cut = split_at_exits(scalars, self.model.exits, reached.near, sharing)
        grams = None
        if self.at == "features":
            rows = at_features(cut, sharing.modules)
            grams = rows.grams(self.scale)
        else:
            rows = at_parameters(cut, sharing.modules, keep_graph=keep_graph or auxiliary is not None)
            if self.known.several:
                places = [parameter for group in rows.places for parameter in group]
                rows.reached = torch.tensor([[id(p) in reached.whole[name] for name in scalars] for p in places],
                                            dtype=torch.bool).view(-1, len(scalars))
            for block in (block for blocks in rows.modules for block in blocks if self.scale != 1):
                block /= self.scale
        reaching = rows.reaching() if self.at == "features" else None
        losses = torch.stack([loss.detach().double() for loss in scalars.values()]) / self.scale
        return Measured(scalars, losses, auxiliary, None, cut, rows, grams, reaching)

    def _finish(self, measured: Measured, shares: Iterable[Measured]) -> TaskWeights:
        """Ask the strategy, then pass the graphs of `shares`, and write what `measured` has itself."""
        here = self._places(measured.scalars)
        weights, direction = self._weights(measured, here)
        share, alone = measured, measured.rows is not None and measured.grams is None
        for share in shares:
            self._pass(share, weights, direction)
        if alone:
            measured.cut.write_own(weights.heads[here])
        auxiliary = share.auxiliary
        if self.known.several:
            summed = measured.rows.places if alone and auxiliary is None else []
            self.known.agreement.sum_written(leaves_of(share.scalars, auxiliary),
                                             [id(parameter) for group in summed for parameter in group])
        for parameter in self.known.learning if self.scale != 1 else ():
            if parameter.grad is not None:
                parameter.grad /= self.scale
        still = measured.rows.write(weights.shared.index_select(-1, here), direction) if alone else []
        if not self._measures or auxiliary is not None or self.scale != 1:
            check_written(self.known.learning, share.scalars, auxiliary)
        for parameter in still:  # no step: neither momentum nor decay shall move a module with zero weights
            parameter.grad = torch.zeros_like(parameter) if self.strategy.zero_is_a_step else None
        return weights

    def _weights(self, measured: Measured, here: Tensor) -> tuple[TaskWeights, Tensor | None]:
        """What the strategy says to the sums over processes, and its direction if it gives one."""
        rows, losses, grams = measured.rows, measured.losses, measured.grams
        if self.known.several:
            blocks = [] if rows is None else [block for some in rows.modules for block in some]
            self.total([losses, *(blocks if grams is None else [grams])])
        if not self._measures:
            present, self._grams = self._look(measured.scalars, losses.cpu()), None
            weights = self.strategy.weights(self.losses, None, present)
            if weights.shared.dim() != 1:
                raise ValueError(f"{type(self.strategy).__name__} gives weights by module; it must say "
                                 "needs='module_grams'.")
            return weights, None
        grams = rows.grams() if grams is None else grams
        host = torch.cat([losses, grams.flatten()]).cpu()  # the step's one copy
        present = self._look(measured.scalars, host[: len(here)])
        self._grams = self._laid_out(host[len(here) :].view(-1, len(here), len(here)), here)
        reaching = rows.reaching() if measured.reaching is None else measured.reaching
        self._reaching = reaching.new_zeros(len(reaching), len(self.tasks)).index_copy(1, here, reaching)
        self._check_gradients()
        gram = {"losses": None, "gradients": None, "gram": self._grams.sum(0), "module_grams": self._grams}
        weights = self.strategy.weights_among(self._reaching, self.losses, gram[self.strategy.needs], present)
        return weights, self._direction(rows, here) if self.strategy.needs == "gradients" else None

    def _pass(self, share: Measured, weights: TaskWeights, direction: Tensor | None = None) -> None:
        """Pass the graph of one share: all that its gradients did not measure, or that wait for the weights."""
        scalars, auxiliary, vector = share.scalars, share.pulling, share.vector
        here = self._places(scalars)
        if vector is None:
            if share.grams is not None:
                share.rows.write(weights.shared[here], direction, keep_graph=auxiliary is not None)
                share.cut.write_own(weights.heads[here])
            if auxiliary is not None:
                auxiliary.backward()
            return

        def weighted(weights: Tensor, extra: Sequence[Tensor] = (), **options: Any) -> None:
            """One backward pass with these weights, and of `extra`."""
            signal = (weights if here is self._everyone else weights[here]).to(vector)
            torch.autograd.backward([vector, *extra], [signal, *(None for _ in extra)], **options)

        shared: list[nn.Parameter] = []
        if weights.shared is not weights.heads and not torch.equal(weights.shared, weights.heads):
            sharing = self.known.sharing_in(self.known.reached(scalars, auxiliary))
            shared = [parameter for group in sharing.modules for parameter in group]
        if not shared:
            weighted(weights.heads, [] if auxiliary is None else [auxiliary])
            return
        # The first call stops at the heads: only the tasks' own parameters are asked for.
        own = [parameter for name in scalars for parameter in sharing.own[name]]
        if own:
            weighted(weights.heads, inputs=own, retain_graph=True)
        weighted(weights.shared, inputs=shared, retain_graph=auxiliary is not None)
        if auxiliary is not None:
            auxiliary.backward()

    def check_shares(self) -> None:
        """Raise ValueError for what cannot be computed from shares of a batch."""
        if self.at == "features" and self.strategy.needs == "gradients":
            raise ValueError(f"{type(self.strategy).__name__} decides on the entries of the representation of a whole "
                             "batch, and cannot in shares of it; use at='parameters', or accumulate=1 in one process.")

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
