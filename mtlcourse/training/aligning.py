"""The methods that align domains by a distance between batches of features, one function each.

Imports `files`, `metrics.distances`, `models`, `tasks`, and its folder's `adaptation`, `procedures`. A method is a
procedure of `methods`: its keyword-only arguments are options of its name, as in "pc(weight=0.1)".
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..data import DomainView
from ..files import is_number
from ..metrics import distances
from ..models import DomainModel, Seen
from ..tasks import Batch
from .adaptation import Losses, adapt
from .loop import Run
from .procedures import Setting

Build = Callable[[DomainView], DomainModel]
Distance = Callable[[Seen, Seen], Tensor]


def risk(model: DomainModel, seen: Seen, batch: Batch) -> Tensor:
    """The mean classification loss on a source batch."""
    return model.task.loss(seen.logits.float(), batch.targets[model.task.name]).mean()


class SourceOnly:
    """`1/n sum_i l(C(F(x_i)), y_i)`: no target input is looked at."""

    alone = True

    def __call__(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        return {"risk": risk(model, model.look(batch.inputs), batch)}


class Aligning:
    """`1/n sum_i l(C(F(x_i)), y_i) + lambda D(source, target)`, D a distance, or its mean over several targets.

    distance: `distance(source, target) -> scalar` of what is `Seen` of two batches, in float32.  weight: lambda, at
    least 0. With 0 targets pass the network, and move the statistics of its batch norms, but nothing aligns them.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equation 4.2 and section 4.4.4.
    """

    def __init__(self, distance: Distance, weight: Any = 1.0):
        self.distance, self.weight = distance, checked(weight)

    def __call__(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        source, others = model.together(batch, targets)
        found = torch.stack([self.distance(single(source), single(other)) for other in others.values()]).mean()
        return {"risk": risk(model, source, batch), "alignment": self.weight * found}


def single(seen: Seen) -> Seen:
    """In float32, for distances lose too much in less."""
    return Seen(seen.features.float(), seen.logits.float())


def checked(weight: Any) -> float:
    """`weight` if it is a number of at least 0; else ValueError."""
    if not is_number(weight) or not 0 <= weight < float("inf"):
        raise ValueError(f"weight={weight!r} is no number from 0 upwards. It is lambda, what the distance between the "
                         "domains counts beside the source's loss.")
    return float(weight)


def negative_pc(source: Seen, target: Seen) -> Tensor:
    """Minus the population correlation, which is high where domains are alike."""
    return -distances.population_correlation(source.features, target.features)


def kl(source: Seen, target: Seen) -> Tensor:
    """`distances.kl` of the features, from the source to the target."""
    return distances.kl(source.features, target.features)


def mmd(source: Seen, target: Seen) -> Tensor:
    """`distances.mmd` of the features."""
    return distances.mmd(source.features, target.features)


def coral(source: Seen, target: Seen) -> Tensor:
    """`distances.coral` of the features."""
    return distances.coral(source.features, target.features)


def cmd(source: Seen, target: Seen) -> Tensor:
    """`distances.cmd` of the features' hyperbolic tangents, which lie in an interval of length 1 as features do not."""
    return distances.cmd(source.features.tanh(), target.features.tanh())


def layerwise(source: Seen, target: Seen) -> Tensor:
    """The sum over layers of `distances.mmd`: of the features, and of the logits."""
    return mmd(source, target) + distances.mmd(source.logits, target.logits)


def joint(source: Seen, target: Seen) -> Tensor:
    """`distances.mmd` with the product of kernels of two layers: features, and softmax predictions."""
    both = [torch.cat([source.features, target.features]), torch.cat([source.logits, target.logits]).softmax(1)]
    kernels = [distances.gaussian_kernels(layer) for layer in both]
    return distances.discrepancy(kernels[0] * kernels[1], len(source.features))


# What the source compares with PC in its place, but for the proxy A-distance, which takes a classifier of its own.
DISTANCES: dict[str, Distance] = {"pc": negative_pc, "kl": kl, "mmd": mmd, "coral": coral, "cmd": cmd}


# --- methods --------------------------------------------------------------------------------------------

def source_only(view: DomainView, build: Build, strategy: Any, setting: Setting) -> Run:
    """The baseline: learn the source and look at no target."""
    return adapt(view, build(view), SourceOnly(), setting)


def by(distance: Distance, source: str) -> Callable[..., Run]:
    """The method that makes a distance of `Aligning` small; `source` says where it is from."""
    def method(view: DomainView, build: Build, strategy: Any, setting: Setting, *, weight: Any = 1.0) -> Run:
        return adapt(view, build(view), Aligning(distance, weight), setting)

    method.__doc__ = f"{distance.__doc__}\n\n    Minimised beside the risk, see `Aligning`.\n    Source: {source}"
    return method


THESIS = "Learning Architecture for Multiple Tasks in Transfer Learning, "
pc = by(negative_pc, THESIS + "equations 4.1 and 4.2.")
by_kl, by_mmd, by_coral, by_cmd = (by(distance, THESIS + "section 4.4.4.") for distance in (kl, mmd, coral, cmd))
dan = by(layerwise, "M. Long, Y. Cao, J. Wang, M. I. Jordan, Learning Transferable Features with Deep Adaptation "
         "Networks, ICML 2015: risk plus lambda times the sum over layers of squared MMD; here kernels count alike.")
jan = by(joint, "M. Long, H. Zhu, J. Wang, M. I. Jordan, Deep Transfer Learning with Joint Adaptation Networks, ICML "
         "2017: the joint maximum mean discrepancy; kernels as in `distances.mmd`, unbiased.")
