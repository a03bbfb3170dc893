"""Bilevel optimisation: what is learned on validation data above what is learned on training data.

Imports `files`, `strategies`, `tasks`, `updates`. All searches stand on `BilevelStep`; it goes into `training.fit`
as `step`.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from ..files import derived_seed, unknown
from ..strategies import NonFinite
from ..tasks import VOID, Batch, Problem, Whole, epoch_of
from ..training.distributed import ALONE, Total
from ..training.identity import described, settings_of
from ..training.updates import StrategyStep, make_optimizer

ORDERS = ("first", "second", "exact", "single")
Loss = Callable[[Batch], Tensor]


class NonFiniteObjective(NonFinite):
    """The objective of the upper level is NaN or infinite."""

    what = "upper-level objective"


class BilevelStep:
    """Two levels of learning in turn: `min_u F(w*(u), u)` subject to `w*(u) = argmin_w L(w, u)`.

    Each call makes one step of the upper parameters u (the architecture) on the next batch of `split`,
    then (or before, see `weights_first`) one step of the weights w on the batch it was called with: a step object for
    `training.fit`.

    lower: the step that learns w, with its strategy and optimiser; its optimiser must not hold any of u.
    upper: the parameters u; they have an optimiser of their own, by default Adam.
    objective: `objective(batch) -> scalar`, the upper loss F on a batch of `split`; see `summed`. On a share of a batch
        it must be that share's part of F: gradients are summed over the processes of the lower step.
    split: the data of the upper level; batches of `batch_size` come in random order, epoch after epoch, with
        `drop_last` full ones only.
    lr, weight_decay, optimizer: of u; the last as in `training.fit`.
    order: how much of the way in which w* depends on u is in the gradient of F.
        "first": none of it, `dF(w, u)/du` at the present weights.
        "second": one step of it, `w' = w - xi d` with `d = dL(w, u)/dw + decay w + momentum buffer`:
            `dF(w', u)/du - xi d2L(w, u)/dudw v` with `v = dF(w', u)/dw'`, where the product with v is the
            central difference of dL/du at `w +- eps v`, `eps = 0.01 / |v|`, divided by `2 eps`.
        "exact": the same with an exact product (autograd twice), which takes more memory.
        "single": no second level: both levels minimise the loss on both batches together, which is the
            sum over both halves of the data (up to a factor, for equal batches two). `objective` then also
            sees the batch of both.
    lower_objective: `L(batch) -> scalar`, differentiable in w and u; needed for "second" and "exact",
        because a strategy's combination of gradients is the gradient of no loss.
    xi: the length of the look-ahead; by default the lower optimiser's learning rate. `xi=0` is first
        order. Decay and momentum in d are those of the lower optimiser where it is SGD; the scaling that
        Adam does is left out, as gradient descent is what the formula is derived for.
    warm_up: so many epochs only w learns, from the data that are its own in the order given.
    weights_first: w makes its step before u, which then looks ahead from there, on the same batch.
    With a batch that has no label at all w makes no step, and "second" and "exact" have none to look through. Running
    statistics of batch norm see every forward pass, those of the upper level and of looking ahead too.

    To combine several upper objectives, override `upper_gradient`, which may call `hypergradients` with all.
    Raises ValueError for an unknown order, for a task without labels in `split`, for parameters on both
    levels, and for a missing `lower_objective`.
    Source: H. Liu, K. Simonyan, Y. Yang, DARTS: Differentiable Architecture Search (equations 7 and 8), as used in
    Learning Architecture for Multiple Tasks in Transfer Learning, equations 3.8 and 5.4.
    """

    def __init__(self, lower: StrategyStep, upper: Sequence[nn.Parameter], objective: Loss, split: Any, *, lr: float,
                 weight_decay: float = 0.0, optimizer: str | Callable = "adam", batch_size: int, order: str = "first",
                 seed: int = 0, lower_objective: Loss | None = None, xi: float | None = None, warm_up: int = 0,
                 drop_last: bool = False, weights_first: bool = False):
        if order not in ORDERS:
            raise ValueError(unknown("order", str(order), ORDERS))
        if order in ("second", "exact") and lower_objective is None:
            raise ValueError(f"order={order!r} looks through the step of the weights and so needs their loss: give "
                             "lower_objective, a function from a batch to a scalar.")
        if lower.scaling:
            raise ValueError("The upper level of a search has no loss scaling, without which its gradients vanish in "
                             "float16; use precision='bfloat16' or 'float32'.")
        check_labels(split, [task.name for task in lower.tasks])
        self.total, self.accumulate = lower.total, lower.accumulate
        self.lower, self.upper, self.objective, self.split = lower, list(upper), objective, split
        self.batch_size, self.order, self.lower_objective, self.xi = batch_size, order, lower_objective, xi
        self.warm_up, self.epoch, self.drop_last, self.samples_above = warm_up, 0, drop_last, 0
        self.weights_first = weights_first
        if {id(weight) for weight, _ in self._weights()} & {id(parameter) for parameter in self.upper}:
            raise ValueError("Some upper parameters are in the lower optimiser too; leave them out of its groups.")
        group = {"params": self.upper, "lr": lr, "weight_decay": weight_decay}
        self.optimizer = make_optimizer(optimizer, [group], lr)
        self.optimizers = [*lower.optimizers, self.optimizer]
        self.settings = {**lower.settings, "upper": {
            **settings_of([self.optimizer]), "optimizer": described(optimizer), "order": order, "xi": xi,
            "warm_up": warm_up, "batch_size": batch_size, "samples": len(split),
            **({"weights_first": True} if weights_first else {})}}
        self._generator = torch.Generator().manual_seed(derived_seed(seed, "upper level"))
        self._batches: Iterator[Batch] = iter(())
        self._epoch_began, self._taken = self._generator.get_state(), 0

    def __call__(self, batch: Batch) -> dict[str, float]:
        warming_up = self.epoch < self.warm_up
        if self.order == "single":
            above = batch = joined(batch, self.next_batch())
        elif not warming_up:
            above = self.next_batch()
        if warming_up:
            return self.lower(batch)
        if self.weights_first:
            losses = self.lower(batch)
            self._move(above, batch)
            return losses
        self._move(above, batch)
        losses = self.lower(batch)
        self.optimizer.zero_grad()  # what the weights' backward pass left there
        return losses

    def _move(self, above: Batch, below: Batch) -> None:
        """One step of u."""
        for parameter, gradient in zip(self.upper, self.upper_gradient(above, below), strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()

    # --- the gradient of the upper level ---

    def upper_gradient(self, above: Batch, below: Batch) -> list[Tensor]:
        """The gradient for u from a batch of each level."""
        return self.hypergradients([self.objective], above, below)[0]

    def hypergradients(self, objectives: Sequence[Loss], above: Batch, below: Batch) -> list[list[Tensor]]:
        """For each objective its gradient in u, one tensor a parameter, in the order of the step."""
        if self.order in ("first", "single") or not self._labelled(below):  # without labels w makes no step
            return [self._of(objective, above, self.upper) for objective in objectives]
        weights = [weight for weight, _ in self._weights()]
        rates = [group["lr"] if self.xi is None else self.xi for _, group in self._weights()]
        slopes = gradients(self.lower_objective(below), weights, total=self.total)
        ahead = [weight - rate * self._direction(weight, slope, group)
                 for (weight, group), rate, slope in zip(self._weights(), rates, slopes, strict=True)]
        with moved(weights, ahead):
            both = [self._of(objective, above, [*self.upper, *weights]) for objective in objectives]
        product = exact_product if self.order == "exact" else central_difference
        found = []
        for gradient in both:
            direct, v = gradient[: len(self.upper)], gradient[len(self.upper) :]
            along = [rate * part for rate, part in zip(rates, v, strict=True)]
            bent = product(lambda: self.lower_objective(below), self.upper, weights, along, self.total)
            found.append([a - b for a, b in zip(direct, bent, strict=True)])
        return found

    def _of(self, loss: Loss, batch: Batch, parameters: Sequence[Tensor]) -> list[Tensor]:
        value = loss(batch)
        whole = value.detach().clone()
        self.total([whole])
        if not torch.isfinite(whole):
            raise NonFiniteObjective("all", whole.item())
        return gradients(value, parameters, total=self.total)

    def _weights(self) -> list[tuple[nn.Parameter, dict[str, Any]]]:
        """Each learning weight of the lower optimiser, with its group."""
        return [(weight, group) for group in self.lower.optimizer.param_groups for weight in group["params"]
                if weight.requires_grad]

    def _direction(self, weight: Tensor, slope: Tensor, group: dict[str, Any]) -> Tensor:
        if not isinstance(self.lower.optimizer, torch.optim.SGD):
            return slope
        direction = slope + group["weight_decay"] * weight.detach()
        buffer = self.lower.optimizer.state[weight].get("momentum_buffer")
        return direction if buffer is None else direction + group["momentum"] * buffer

    # --- the data of the upper level ---

    def next_batch(self) -> Batch:
        """The next batch of `split` that has a label of some task, in a new order after each epoch."""
        while True:
            batch = next(self._batches, None)
            if batch is None:
                self._epoch_began, self._taken = self._generator.get_state(), 0
                self._batches = self._epoch()
                continue
            self._taken += 1
            self.samples_above += batch.samples
            if self._labelled(batch):
                return batch

    def _labelled(self, batch: Batch) -> bool:
        return any(batch.count(task.name) for task in self.lower.tasks)

    def _epoch(self) -> Iterator[Batch]:
        self.split = self.split.to(next(self.lower.model.parameters()).device)
        share = (self.total.rank, self.total.size)
        return epoch_of(self.split, self.batch_size, self._generator, self.drop_last, share)

    # --- what `fit` needs besides ---

    def on_epoch_end(self, epoch: int, mean_losses: dict[str, float]) -> None:
        self.epoch = epoch
        self.lower.on_epoch_end(epoch, mean_losses)

    def seen_so_far(self) -> dict[str, dict[str, float]]:
        return self.lower.seen_so_far()

    def state_dict(self) -> dict[str, Any]:
        return {"lower": self.lower.state_dict(), "optimizer": self.optimizer.state_dict(), "epoch": self.epoch,
                "epoch_began": self._epoch_began, "taken": self._taken, "samples_above": self.samples_above}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.lower.load_state_dict(state["lower"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self._epoch_began, self._taken = state["epoch"], state["epoch_began"], state["taken"]
        self.samples_above = state["samples_above"]
        self._generator.set_state(self._epoch_began)
        self._batches = self._epoch() if self._taken else iter(())
        for _ in range(self._taken):  # the same order again, up to where it was left
            next(self._batches)


def summed(step: StrategyStep) -> Loss:
    """The sum of all task losses (and the model's auxiliary loss) on a batch, as an objective for either level."""
    def loss(batch: Batch) -> Tensor:
        losses, auxiliary = step.losses(batch)
        return torch.stack([*losses.values(), *([] if auxiliary is None else [auxiliary])]).sum()
    return loss


# --- derivatives ----------------------------------------------------------------------------------------

def gradients(value: Tensor, parameters: Sequence[Tensor], keep: bool = False, total: Total = ALONE) -> list[Tensor]:
    """The gradient of `value` in each of `parameters`, zero where it does not depend on it.

    keep: its graph; then each process has that of its own share, and sums what it makes of it.
    """
    found = torch.autograd.grad(value, parameters, create_graph=keep, allow_unused=True, materialize_grads=True)
    return list(found) if keep else summed_over(found, total)


def summed_over(found: Sequence[Tensor], total: Total) -> list[Tensor]:
    """The sums of these gradients over processes."""
    if total.size > 1:
        found = [gradient.contiguous() for gradient in found]
        total(found)
    return list(found)


def exact_product(loss: Callable[[], Tensor], upper: Sequence[Tensor], weights: Sequence[Tensor], v: Sequence[Tensor],
                  total: Total = ALONE) -> list[Tensor]:
    """`d2L/dudw v`: the gradient in u of `<dL/dw, v>`."""
    slopes = gradients(loss(), weights, keep=True)
    projection = sum((slope * part).sum() for slope, part in zip(slopes, v, strict=True))
    if not projection.requires_grad:
        projection = projection + 0 * sum(parameter.flatten()[:1].sum() for parameter in upper)
    return gradients(projection, upper, total=total)


def central_difference(loss: Callable[[], Tensor], upper: Sequence[Tensor], weights: Sequence[Tensor],
                       v: Sequence[Tensor], total: Total = ALONE) -> list[Tensor]:
    """`d2L/dudw v` from two gradients of L in u, on both sides of w; both see the same dropout and noise.

    Right where L is smooth. With ReLU and max pooling the sides lie on other pieces of the net, and what is divided by
    `2 eps` is a jump: on a small supernet of cells it was off by 0.6 to 2.5 times itself.
    """
    norm = torch.stack([part.norm() for part in v]).norm()
    if norm == 0:
        return [torch.zeros_like(parameter) for parameter in upper]
    eps = 0.01 / norm
    sides = []
    for sign in (1, -1):
        with moved(weights, [weight + sign * eps * part for weight, part in zip(weights, v, strict=True)]):
            with torch.random.fork_rng() if sign > 0 else contextlib.nullcontext():
                sides.append(gradients(loss(), upper, total=total))
    return [(plus - minus) / (2 * eps) for plus, minus in zip(*sides, strict=True)]


@contextlib.contextmanager
def moved(weights: Sequence[Tensor], values: Sequence[Tensor]) -> Iterator[None]:
    """Inside, `weights` have these values; afterwards they are what they were, to the bit."""
    before = [weight.detach().clone() for weight in weights]
    try:
        _set(weights, values)
        yield
    finally:
        _set(weights, before)


def _set(weights: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)


# --- data -----------------------------------------------------------------------------------------------

def halves(problem: Problem, seed: int = 0, share: float = 0.5) -> tuple[Problem, Any]:
    """The problem with one half of its training split, and the other half, for the two levels of a search.

    Each sample goes to one half, by chance; of an odd number the weights get one more. With inputs per task each
    task's samples are halved.
    share: what the upper level gets, where it is not half; at least one sample.
    Raises ValueError when a task has no label in one of the halves, and for a share that is none.
    """
    if not 0 < share < 1:
        raise ValueError(f"The upper level cannot have the share {share} of the training data; give a number between "
                         "0 and 1, such as 0.5.")
    generator = torch.Generator().manual_seed(derived_seed(seed, "halves"))

    def order(samples: int) -> tuple[Tensor, Tensor]:
        shuffled = torch.randperm(samples, generator=generator)
        below = samples - max(int(share * samples), 1)
        return shuffled[:below], shuffled[below:]

    train = problem.train
    if len(train) < 2:
        raise ValueError(f"Problem {problem.name!r} has a single training sample; a search needs two halves.")
    if getattr(train, "shared", True):
        below, above = order(len(train))
    else:
        orders = {name: order(len(target)) for name, target in train.targets.items()}
        single = [name for name, (first, _) in orders.items() if not len(first)]
        if single:
            raise ValueError(f"Tasks {single} have a single training sample; a search needs two halves.")
        below, above = ({name: pair[side] for name, pair in orders.items()} for side in (0, 1))
    split, rest = train.subset(above), train.subset(below)
    for half, level in ((rest, "weights'"), (split, "architecture's")):
        check_labels(half, problem.task_names, f"The {level} half of 'train', {len(half)} of {len(train)} samples,")
    return replace(problem, train=rest), split


def check_labels(split: Any, tasks: Sequence[str], what: str = "The split of the upper level") -> None:
    """Raise ValueError if a task has no label in `split` (where it can count them); `what` is how it is called."""
    missing = [task for task in tasks if hasattr(split, "count") and not split.count(task)]
    if missing:
        raise ValueError(f"{what} has no labels for {missing}: nothing could be learned about them there. A search "
                         "needs labels of every task on both of its levels: give more labelled samples, another seed "
                         "or another split.")


def joined(first: Batch, second: Batch) -> Batch:
    """Both batches as one; where tasks share their inputs, a task that one of them lacks is unlabelled there."""
    names = list(dict.fromkeys([*first.targets, *second.targets]))
    counts = {name: first.count(name) + second.count(name) for name in names}
    whole = None
    if first.whole and second.whole:
        own = not isinstance(first.inputs, Tensor)
        masks = [{name: batch.labelled.get(name, torch.zeros(0 if own else batch.samples, dtype=torch.bool))
                  for name in names} for batch in (first, second)]
        whole = Whole(first.shares, first.samples + second.samples,
                      {name: torch.cat([mask[name] for mask in masks]) for name in names})
    if not isinstance(first.inputs, Tensor):
        def both(side: str) -> dict[str, Tensor]:
            parts = [getattr(batch, side) for batch in (first, second)]
            return {name: torch.cat([part[name] for part in parts if name in part]) for name in names}
        return Batch(both("inputs"), both("targets"), counts, whole)

    def labels(batch: Batch, name: str) -> Tensor:
        if name in batch.targets:
            return batch.targets[name]
        known = (first if batch is second else second).targets[name]
        return known.new_full((len(batch), *known.shape[1:]), float("nan") if known.is_floating_point() else VOID)

    targets = {name: torch.cat([labels(first, name), labels(second, name)]) for name in names}
    inputs: list[Tensor] = [batch.inputs for batch in (first, second)]
    return Batch(torch.cat(inputs), targets, counts, whole)
