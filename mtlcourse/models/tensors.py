"""Tensor models of the heads: DMTRL factorises the stack of their weights, TNRMTL keeps its trace norms small.

Imports `files`, `tasks`, `models.base`, `models.hps`. The output layers of all heads are stacked to one tensor W
of shape (features, classes, tasks); heads with fewer outputs than the largest are filled up with zeros. To all that
is done with W these zeros are data like the rest: factors start at what is nearest to them too, and norms and
covariances count them.

Where heads are single linear layers, as on vectors and pooled maps, all output layers look at the same features: the
shared representation. Heads for dense tasks (`DenseDecoder`, `ASPPDecoder`) have a layer or more before the output
layer, and its features are the task's own. Feature i of one task then has nothing to do with feature i of another:
the stack is formal, and only training with it can relate what it puts side by side.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..files import unknown
from ..tasks import Batch, Problem
from .base import Encoder, MTLModel
from .hps import HPS

Stack = Float[Tensor, "features classes tasks"]


# --- the stack of heads ----------------------------------------------------------------------------------------

def output_layers(model: MTLModel) -> dict[str, tuple[str, nn.Module]]:
    """`{task: (name inside the head, layer)}` of the layer that makes each task's outputs: its head's last one.

    Raises ValueError when no tensor can be made of these layers: some make outputs for each pixel and others for a
    whole sample, or they do not all look at the same number of features.
    """
    dense = [task.name for task in model.tasks if task.dense]
    pooled = [task.name for task in model.tasks if not task.dense]
    if dense and pooled:
        raise ValueError(f"{type(model).__name__} stacks the output layers of all heads to one tensor, but those of "
                         f"{dense} look at pixels and those of {pooled} at whole samples. Use tasks of one kind, all "
                         "dense or none.")
    layers: dict[str, tuple[str, nn.Module]] = {
        name: [(place, layer) for place, layer in head.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)][-1]
        for name, head in model.heads.items()}
    sizes = {name: layer.weight[0].numel() for name, (_, layer) in layers.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{type(model).__name__} stacks the output layers of all heads to one tensor, but they look "
                         f"at different numbers of features: {sizes}. Use an encoder whose heads end alike.")
    return layers


def stack(weights: Sequence[Tensor]) -> Stack:
    """The tensor W of the tasks' weights, each `(outputs, ...)`: `W[:, c, t]` makes output c of task t, zero where
    the task has fewer outputs."""
    classes = max(len(weight) for weight in weights)
    filled = [nn.functional.pad(weight.flatten(1), (0, 0, 0, classes - len(weight))) for weight in weights]
    return torch.stack([weight.T for weight in filled], -1)


class StackedHeads(HPS):
    """Hard sharing whose heads can be looked at as one tensor; the base of the models here and of `MRN`.

    For heads of more than one layer the stack is formal, see the top of this file.
    Raises ValueError for heads that cannot be stacked, see `output_layers`.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None):
        super().__init__(problem, encoder)
        output_layers(self)

    def stacked(self) -> Stack:
        """The weights W of all output layers."""
        return stack([layer.weight for _, layer in output_layers(self).values()])


def unfold(W: Float[Tensor, "*shape"], mode: int) -> Float[Tensor, "rows columns"]:
    """The matricisation of W in one mode: its index counts rows, all others together count columns."""
    return W.movedim(mode, 0).flatten(1)


# --- factorised ------------------------------------------------------------------------------------------------

AMONG_TASKS = 2  # the least rank in the task mode, if there are so many tasks; see `DMTRL`


class Tucker(nn.Module):
    """`W = S x1 U1 x2 U2 x3 U3`: a core S of size (r1, r2, r3), and a factor matrix U for each mode.

    W: what to start from; the factors are the leading singular vectors of its matricisations, the core is W
    seen in them. share: the ranks as a fraction of the full ones; r3, that of the tasks, is at least min(m, 2).
    """

    def __init__(self, W: Stack, share: float):
        super().__init__()
        factors = [_svd(unfold(W, mode), share, least)[0] for mode, least in enumerate((1, 1, AMONG_TASKS))]
        core = torch.einsum("dct,di,cj,tk->ijk", W, *factors)
        self.core, self.factors = nn.Parameter(core), nn.ParameterList(factors)

    def forward(self) -> Stack:
        return torch.einsum("ijk,di,cj,tk->dct", self.core, *self.factors)


class TensorTrain(nn.Module):
    """`W[d, c, t] = A1[d] A2[:, c] A3[:, t]`: a matrix, a three-way core and a matrix, contracted in turn.

    W: what to start from; factors by two singular value decompositions, from the left.
    share: the ranks as a fraction of the full ones; that of the last cut, which parts the tasks from the rest, is at
        least min(m, 2).
    """

    def __init__(self, W: Stack, share: float):
        super().__init__()
        features, classes, tasks = W.shape
        first, rest = _svd(W.reshape(features, -1), share)
        second, third = _svd(rest.reshape(-1, tasks), share, AMONG_TASKS)
        self.first, self.third = nn.Parameter(first), nn.Parameter(third)
        self.second = nn.Parameter(second.reshape(first.shape[1], classes, -1))

    def forward(self) -> Stack:
        return torch.einsum("di,icj,jt->dct", self.first, self.second, self.third)


class LastAxis(nn.Module):
    """`W[..., t] = sum_k L_k V[k, t]`: the weights of each task are a combination of r basis matrices.

    W: what to start from, by singular value decomposition.
    share: r as a fraction of the full rank, but at least min(m, 2).
    """

    def __init__(self, W: Stack, share: float):
        super().__init__()
        basis, mixing = _svd(W.reshape(-1, W.shape[-1]), share, AMONG_TASKS)
        self.basis, self.mixing = nn.Parameter(basis.reshape(*W.shape[:2], -1)), nn.Parameter(mixing)

    def forward(self) -> Stack:
        return self.basis @ self.mixing


def _svd(matrix: Float[Tensor, "rows columns"], share: float, least: int = 1) -> tuple[Tensor, Tensor]:
    """Factors `U` and `S V^T` of the best approximation of a rank: `share` of the full one, not less than `least`."""
    U, S, V = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank = max(least, round(share * len(S)))  # where it is more than there is, the slices take all
    return U[:, :rank].to(matrix), (S[:rank, None] * V[:rank]).to(matrix)


TENSORS: dict[str, type[nn.Module]] = {"tucker": Tucker, "tt": TensorTrain, "laf": LastAxis}


class DMTRL(StackedHeads):
    """Deep multi-task representation learning: the weights of all heads are one tensor in factorised form.

    prediction of task t: `h_t(f_S(x))`, where the output layer of h_t has the weights `W[:, :, t]`; the
    factors of W are shared by all tasks, biases and everything before the output layers are the task's own.
    Factors start as those of the heads that `HPS` has; at full rank the model starts as `HPS`, and can reach
    whatever heads can be.

    tensor: "tucker", "tt" (tensor train) or "laf" (last axis flattening), see `Tucker`, `TensorTrain` and
        `LastAxis`.
    share: all ranks as a fraction of the full ones, in (0, 1]. Among m tasks, though, the rank is at least min(m, 2),
        as far as the other two let it: with rank 1 the output weights of all tasks would be multiples of one, so two
        tasks could not differ in what they look at. (The paper takes ranks from a threshold on the singular values
        of trained single-task nets, which are not there yet.)
    The paper factorises every layer of m equal nets. Here it is the heads on a shared encoder, as in Balanced
    Multi-task Learning, section 4.1.2.
    Raises ValueError for an unknown tensor, a share outside (0, 1], and heads that cannot be stacked.
    Source: Deep Multi-task Representation Learning: A Tensor Factorisation Approach, section 3.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, tensor: str = "tucker", share: float = 0.5):
        if tensor not in TENSORS:
            raise ValueError(unknown("tensor factorisation", str(tensor), TENSORS))
        if not 0 < share <= 1:
            raise ValueError(f"share={share!r} is the fraction of the full ranks; it must be in (0, 1].")
        super().__init__(problem, encoder)
        places = {name: place for name, (place, _) in output_layers(self).items()}
        self.tensor = TENSORS[tensor](super().stacked().detach(), share)
        self.heads = nn.ModuleDict({name: SlicedHead(self.heads[name], place) for name, place in places.items()})

    def stacked(self) -> Stack:
        """The weights W of all output layers, made from the factors."""
        return self.tensor()

    def route(self, task: str) -> list[nn.Module]:
        return [*self.shared.stages, self.tensor, self.heads[task]]

    def represent(self, x: Tensor, tasks: Sequence[str]) -> dict[str, Any]:
        """For each task's head a pair: the representation, and the task's slice of the tensor."""
        z, slices = self.shared(x), dict(zip(self.task_names, self.stacked().unbind(-1), strict=True))
        return {name: (self.leave(name, z), self.leave(name, slices[name])) for name in tasks}


class SlicedHead(nn.Module):
    """A head whose output layer gets its weights from outside.

    head: an ordinary head.  place: the name of its output layer inside it ("" for the head itself).
    """

    def __init__(self, head: nn.Module, place: str):
        super().__init__()
        layer = head.get_submodule(place)
        self.head, self.weight, self.shape = head, f"{place}.weight".lstrip("."), tuple(layer.weight.shape)
        layer.register_parameter("weight", None)

    def forward(self, given: tuple[Tensor, Float[Tensor, "features classes"]]) -> Tensor:
        z, W = given
        weight = W[:, : self.shape[0]].T.reshape(self.shape)
        return torch.func.functional_call(self.head, {self.weight: weight}, (z,))


# --- with small trace norms --------------------------------------------------------------------------------------

NORMS = ("tucker", "tt", "laf")


def trace_norm(W: Float[Tensor, "*shape"], kind: str = "tucker") -> Float[Tensor, ""]:
    """A trace norm of a tensor: the mean of the nuclear norms (sums of singular values) of some matricisations.

    kind: "tucker": one matricisation for each mode. "tt": the ones that a tensor train cuts, first j modes against
        the others. "laf": the last mode against all others.
    Raises ValueError for another kind.

    >>> trace_norm(torch.eye(3), "laf").item()
    3.0
    """
    if kind not in NORMS:
        raise ValueError(unknown("trace norm", str(kind), NORMS))
    W = W.float() if W.dtype in (torch.bfloat16, torch.float16) else W
    matrices = {"tucker": lambda: [unfold(W, mode) for mode in range(W.dim())],
                "tt": lambda: [W.flatten(0, j - 1).flatten(1) for j in range(1, W.dim())],
                "laf": lambda: [unfold(W, -1)]}[kind]()
    return torch.stack([torch.linalg.matrix_norm(matrix, "nuc") for matrix in matrices]).mean()


class TNRMTL(StackedHeads):
    """Trace norm regularised multi-task learning: hard sharing, with heads that are drawn towards a low rank.

    loss: `sum_t L_t + strength * |W|_*`, where W is the stack of the output layers' weights and |.|_* one of three
    trace norms. Which tasks share, and what, is not said beforehand; a low rank means that they do.

    norm: "tucker", "tt" or "laf", see `trace_norm`.  strength: not negative. The norm is a mean over matricisations, of
        which a stack has three with "tucker", two with "tt", one with "laf". The authors' public code returns them one
        by one and its demo adds them up: its strength is a third of this one's for "tucker", half of it for "tt".
    The paper stacks every layer of m equal nets. Here it is the heads on a shared encoder, as in Balanced
    Multi-task Learning, section 4.1.2.
    Raises ValueError for an unknown norm, a negative strength, and heads that cannot be stacked.
    Source: Trace Norm Regularised Deep Multi-Task Learning, and the authors' public code.
    """

    def __init__(self, problem: Problem, encoder: Encoder = None, norm: str = "tucker", strength: float = 0.01):
        if norm not in NORMS:
            raise ValueError(unknown("trace norm", str(norm), NORMS))
        if not strength >= 0:
            raise ValueError(f"strength={strength!r}: the weight of the trace norm must not be negative.")
        super().__init__(problem, encoder)
        self.norm, self.strength = norm, strength

    def auxiliary_loss(self, batch: Batch, predictions: Mapping[str, Tensor]) -> Float[Tensor, ""]:
        return self.strength * trace_norm(self.stacked(), self.norm)
