"""Saliency-regularised deep multi-task learning: tasks are related if they look at the same features.

Imports `files`, `tasks`, `void`, `models.base`, `models.saliency`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..files import unknown
from ..tasks import Batch, Problem
from ..void import has_target
from .base import Encoder, MTLModel
from .saliency import DISTANCES, Saliency, between, lengths, normalised, saliencies, scores

RELATIONS = ("learned", "uniform", "entropy", "floor", "alone")
MEMORY = 0.9  # of the running mean of distances
NOTED = "relation_"  # and the other task: what the share of a pair is called in a history
Relation = Float[Tensor, "tasks tasks"]


class SRDML(MTLModel):
    """Saliency-regularised deep multi-task learning: a shared trunk, and heads that are drawn together in function.

    prediction of task t: `f_t(A)`, where A = h(x) is the feature map behind the last shared stage.
    loss: `sum_t L_t + strength * sum_{i<j} p_ij mean_n d(grad_A f_i, grad_A f_j)`, with `p_ij = omega_ij / W`, where
    omega > 0 and W is its sum over pairs i < j (equation 4). Functions with equal gradients are equal up to a constant,
    so this compares what heads do, not their weights. The mean is over the samples that both tasks have labels for;
    shares of a batch give, on average, what the batch gives.

    strength: not negative; 0 is hard sharing (`HPS`; with leave_after=0 `STL`), to the bit.
    distance: "l2", "l1", "cosine" or "inner", see `saliency.between`.  normalise: divide each saliency by its
        length before (appendix C of the source).
    relation: how the p_ij come about.
        "learned": with the weights, by gradient steps on log omega (equation 4).
        "uniform": all pairs alike, the ablation that the text to table 4 describes.
        "entropy": `p = softmax(-d / tau)`, which minimises `sum p d - tau * entropy(p)`; d are running means of the
            distances, and tau is `temperature` times their mean over pairs.
        "floor": learned, but each pair keeps at least the share `floor` of what it has in "uniform".
        "alone": a control in which no tasks meet: the mean over tasks of the length of their own saliency.
    leave_after: the stage p whose output is A; stages after it are each task's own. 0 is the input. Default: the last
        stage with a convolution, or the last of all where none has one.
    speed: the learning rate of log omega as a multiple of the model's; without weight decay. How far the closest
        pair is ahead after training is a matter of this rate and of the number of steps, see below.

    What the equations say about omega. In equation 2 the slack variables come down to one bound on the sum of all
    distances, so its Lagrangian has one multiplier for all pairs: it is "uniform". Equation 3 minimises over omega
    what is linear in it, and with `sum omega >= beta` all of beta goes to the closest pair. So does all of W in
    equation 4, whose infimum over omega > 0 is not reached. "learned" relations are therefore those of an optimiser
    under way, and the bound on the sum is no remedy; "entropy" and "floor", which are ours, are.

    Where tasks have inputs of their own, A is taken on all tasks' samples together, and every head is asked about all
    of them (ours; the source assumes one input for all). Multi-class tasks have no true class on the samples of
    others, and are refused there.
    Linear heads have one saliency for all samples, and it does not depend on the trunk. Nor does that of heads with
    ReLU, whose gradient is constant wherever it is defined. Heads with a smooth hidden layer (`"head": [128],
    "activation": "softplus"` in the encoder's spec) hand the regulariser's gradient on to the trunk.
    Raises ValueError for options that cannot be, for fewer than two tasks, dense tasks and those with several real
    outputs, and for batch norm behind A, with which a sample's saliency is not its own.
    Source: Saliency-Regularized Deep Multi-Task Learning, section 3, equation 4. The paper sums losses and distances
    over samples; here both are means.
    """

    differentiates_twice = True

    def __init__(self, problem: Problem, encoder: Encoder = None, strength: float | int = 0.1, distance: str = "l2",
                 normalise: bool = False, relation: str = "learned", leave_after: int | None = None,
                 speed: float | int = 1, temperature: float | int = 0.1, floor: float | int = 0.5):
        _check_tasks(problem)
        for option, value, known in (("distance", distance, DISTANCES), ("relation", relation, RELATIONS)):
            if value not in known:
                raise ValueError(unknown(option, str(value), known))
        if not 0 <= strength < float("inf") or not speed >= 0 or not temperature > 0 or not 0 <= floor <= 1:
            raise ValueError(f"strength={strength!r} and speed={speed!r} must not be negative, temperature="
                             f"{temperature!r} must be positive, and floor={floor!r} lie in [0, 1].")
        if normalise and relation == "alone":
            raise ValueError("normalise=True makes all saliencies equally long, and relation='alone' penalises nothing "
                             "but their length; use one of the two.")
        super().__init__(problem, encoder)
        trunk = self.new_encoder("shared")
        self.leave_after = _place(leave_after, trunk)
        self.shared = trunk.stages[: self.leave_after]
        self.private = nn.ModuleDict({
            name: self.new_encoder(f"private.{name}").stages[self.leave_after :]
            for name in self.task_names if self.leave_after < len(trunk.stages)})
        self.add_heads(trunk.out_shape)
        self.strength, self.distance, self.normalise, self.kind = strength, distance, normalise, relation
        self.speed, self.temperature, self.floor = speed, temperature, floor
        for name, layer in self.named_modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm) and not name.startswith("shared."):
                raise ValueError(f"Behind the shared features stands a batch norm ({name}), with which a sample's "
                                 "prediction depends on the others of its batch, and has no saliency of its own. Use "
                                 "group norm there, or a later `leave_after`.")
        m = len(self.tasks)
        self.pairs = torch.triu_indices(m, m, 1)
        if relation in ("learned", "floor"):
            self.log_omega = nn.Parameter(torch.zeros(self.pairs.shape[1]))
        if relation == "entropy":
            self.register_buffer("running", torch.full((m, m), float("nan"), dtype=torch.float64))

    # --- the network ---

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared, *self._own(task), self.heads[task]]

    def _own(self, task: str) -> list[nn.Module]:
        """The stages behind A, each task's own."""
        return [*self.private[task]] if task in self.private else []

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Tensor]:
        for stage in self.shared:
            x = stage(x)
        return {name: self.behind(name, self.leave(name, x)) for name in tasks}

    def behind(self, task: str, a: Tensor) -> Tensor:
        for stage in self._own(task):
            a = stage(a)
        return a

    def leave(self, task: str, z: Tensor) -> Tensor:
        """As everywhere; and what is to be differentiated by, behind a frozen trunk or none, is made ready for it."""
        alias = super().leave(task, z)
        return alias.requires_grad_() if torch.is_grad_enabled() and not alias.requires_grad else alias

    # --- saliency ---

    def saliency(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Saliency:
        """`grad_A f_t(A)` for each sample and each task of the batch, in the model's order, flattened.

        predictions: of the last forward pass, on this batch, with its graph. Multi-class: of the true class's logit,
        and zero on samples without label. Where tasks have own inputs, on all samples, task by task.
        Raises ValueError where there is no saliency, see `saliency.saliencies`.
        """
        names = self._present(batch, predictions)
        places = [self.exits[name][0] for name in names]
        if not isinstance(batch.inputs, Tensor):
            together = torch.cat(places)
            places = [together.view_as(together) for _ in names]
            predictions = {name: self.heads[name](self.behind(name, a)) for name, a in zip(names, places, strict=True)}
            several = [name for name in names if predictions[name].shape[1] > 1]
            if several:
                raise ValueError(f"Tasks have inputs of their own, and {several} several classes: on the samples of "
                                 "others they have no true class whose logit could be looked at. Use binary tasks.")
        found = saliencies(scores(predictions, batch.targets, names), places, names)
        return normalised(found) if self.normalise else found

    def distances(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Relation:
        """The mean distance of each two tasks' saliencies on a batch, symmetric; zero on the diagonal.

        NaN for tasks that are not in the batch, and pairs without a sample that both have a label for.
        """
        names = self._present(batch, predictions)
        sums, counts = self._sums(names, batch, predictions)
        found = sums.new_full((len(self.tasks),) * 2, float("nan"))
        here = self._numbers(names)
        found[here[:, None], here] = (sums / counts).fill_diagonal_(0.0)
        return found

    def distances_over(self, split: Any, batch_size: int = 512) -> Relation:
        """`distances` over a whole split, in the mode that the model is in; NaN for pairs without a sample."""
        m = len(self.tasks)
        total, number = torch.zeros(2, m, m, dtype=torch.float64)
        for batch in split.to(next(self.heads.parameters()).device).batches(batch_size):
            with torch.enable_grad():
                predictions = self(batch.inputs)
                names = self._present(batch, predictions)
                sums, counts = self._sums(names, batch, predictions)
            here = self._numbers(names)
            total[here[:, None], here] += sums.detach().cpu()
            number[here[:, None], here] += counts.cpu()
        return (total / number).fill_diagonal_(0.0)

    def auxiliary_loss(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Float[Tensor, ""] | None:
        """The regulariser, None where its strength is zero, and for a batch without labels."""
        names = self._present(batch, predictions)
        if self.strength == 0 or not names:
            return None
        if self.kind == "alone":
            of_each = lengths(self.saliency(batch, predictions), self.distance)
            known = self._known(names, batch)
            whole = self._known(names, batch, of_whole=True) if batch.whole else known
            return batch.shares * self.strength * ((of_each * known).sum(0) / whole.sum(0).clamp_min(1)).mean()
        if self.kind == "entropy" and batch.whole:
            raise ValueError("relation='entropy' follows the distances of whole batches, which a share does not know; "
                             "use another relation, or accumulate=1 in one process.")
        sums, counts = self._sums(names, batch, predictions)
        here = self._numbers(names)
        if self.kind == "entropy" and self.training:
            self._remember(here, sums.detach() / counts)
        shares = self._shares()[here[:, None], here]
        mean = (shares * (sums / counts.clamp_min(1))).sum()
        return batch.shares * self.strength / 2 * mean  # each pair stands there twice

    def _present(self, batch: Batch, predictions: Mapping[str, Tensor]) -> list[str]:
        return [name for name in self.task_names if name in predictions and name in batch.targets]

    def _numbers(self, names: Sequence[str]) -> Tensor:
        return torch.tensor([self.task_names.index(name) for name in names])

    def _known(self, names: Sequence[str], batch: Batch, of_whole: bool = False) -> Bool[Tensor, "batch tasks"]:
        """Which samples count for which tasks: those with a label, or all where inputs are the tasks' own.

        of_whole: of the batch, if this is a share.
        """
        labels = {name: batch.targets[name] for name in names}
        known = [batch.labelled[t].to(y.device) if of_whole else has_target(y) for t, y in labels.items()]
        if isinstance(batch.inputs, Tensor):
            return torch.stack(known, 1)
        return known[0].new_ones(sum(len(one) for one in known), len(names))

    def _sums(self, names: Sequence[str], batch: Batch, predictions: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Distances summed over the samples that both tasks have, and their number: both `(tasks, tasks)`."""
        known = self._known(names, batch)
        whole = self._known(names, batch, of_whole=True) if batch.whole else known
        both = known[:, :, None] & known[:, None, :]
        counts = (whole[:, :, None] & whole[:, None, :]).sum(0)
        return (between(self.saliency(batch, predictions), self.distance) * both).sum(0), counts

    # --- relations ---

    def relation(self) -> Relation:
        """`omega_ij / W`: symmetric, the pairs i < j sum to one, zero on the diagonal (and all over for "alone")."""
        return self._shares().detach()

    def _shares(self) -> Relation:
        m, pairs = len(self.tasks), self.pairs.shape[1]
        some = next(self.heads.parameters())
        if self.kind == "alone":
            return some.new_zeros(m, m)
        p = some.new_full((pairs,), 1 / pairs)
        if self.kind in ("learned", "floor"):
            least = self.floor if self.kind == "floor" else 0.0
            p = least * p + (1 - least) * self.log_omega.softmax(0)
        if self.kind == "entropy":
            d = self.running[self.pairs[0], self.pairs[1]]
            tau = self.temperature * d.nanmean().abs().clamp_min(torch.finfo(d.dtype).tiny)
            p = (-d.nan_to_num(d.nanmean().nan_to_num(0.0)) / tau.nan_to_num(1.0)).softmax(0).to(some)
        i, j = self.pairs
        return p.new_zeros(m, m).index_put((torch.cat([i, j]), torch.cat([j, i])), torch.cat([p, p]))

    @torch.no_grad()
    def _remember(self, here: Tensor, distances: Relation) -> None:
        """Running means; a pair that is seen for the first time starts with what is seen."""
        before = self.running[here[:, None], here]
        mixed = torch.where(before.isnan(), distances.double(), before.lerp(distances.double(), 1 - MEMORY))
        self.running[here[:, None], here] = torch.where(distances.isnan(), before, mixed)

    # --- training ---

    def param_groups(self, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        """The network, and omega with its own rate and without weight decay."""
        omega = [self.log_omega] if hasattr(self, "log_omega") else []
        groups = [{"params": self.learning(without=omega), "lr": lr, "weight_decay": weight_decay}]
        return groups + [{"params": omega, "lr": self.speed * lr, "weight_decay": 0.0}] * bool(omega)

    def report(self) -> dict[str, dict[str, float]]:
        """For the history, by pair: `{first task: {"relation_<second task>": its share}}`."""
        shares = self.relation().tolist()
        return {one: {f"{NOTED}{other}": shares[i][j] for j, other in enumerate(self.task_names) if j > i}
                for i, one in enumerate(self.task_names[:-1])}


def _check_tasks(problem: Problem) -> None:
    if len(problem.tasks) < 2:
        raise ValueError("SRDML relates tasks to one another, and this problem has only "
                         f"{[task.name for task in problem.tasks]}; take 'stl', or add a task.")
    for task in problem.tasks:
        if task.dense:
            raise ValueError(f"Task {task.name!r} predicts every pixel: it has no one score whose gradient would say "
                             "what it looks at. SRDML takes tasks with one answer a sample.")
        if task.kind == "regression" and task.out_channels > 1:
            raise ValueError(f"Task {task.name!r} has {task.out_channels} real outputs, and no one of them is its "
                             "score. SRDML takes one output a task: make a task of each.")


def _place(leave_after: int | None, trunk: Any) -> int:
    """The number of shared stages, checked; the default as `SRDML` says."""
    stages = len(trunk.stages)
    if leave_after is None:
        convolve = [p for p, stage in enumerate(trunk.stages, start=1)
                    if any(isinstance(layer, nn.modules.conv._ConvNd) for layer in stage.modules())]
        leave_after = convolve[-1] if convolve else stages
    if isinstance(leave_after, bool) or leave_after not in range(stages + 1):
        raise ValueError(f"leave_after={leave_after!r}; this encoder has stages 1 to {stages}, and 0 is the input.")
    if not trunk.dtypes[leave_after].is_floating_point:
        raise ValueError(f"After stage {leave_after} there are whole numbers, which have no gradient; take a later "
                         "`leave_after`.")
    return leave_after
