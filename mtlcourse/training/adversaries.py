"""The methods that align domains through an opponent, one class each.

Imports `data`, `metrics.distances`, `models`, `tasks`, and its folder's `adaptation`, `aligning`, `procedures`. The
opponents' parameters learn by the same optimiser as the model's.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data import DomainView
from ..files import is_whole, part
from ..metrics import distances
from ..models import DomainModel, Seen
from ..tasks import Batch
from .adaptation import Losses, Phase, adapt
from .aligning import Build, checked, risk, single
from .loop import Run
from .procedures import Setting


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float) -> Tensor:
        ctx.scale = scale
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return -ctx.scale * gradients[0], None


def reversed_gradient(x: Tensor, scale: float = 1.0) -> Tensor:
    """`x` itself, through which gradients come back multiplied by `-scale`."""
    return _Reversal.apply(x, scale)


class LogisticDistance(nn.Module):
    """The proxy A-distance as training takes it: `risk + lambda max_w A_w(source, target)`.

    A_w is `distances.logistic_a_distance`, the logistic surrogate, of a linear classifier w on the features, which
    learns all the time to make it large, while the features make it small, but never below 0: w = 0 has that, so what
    is less is no distance, only a classifier that lags behind, and following it has no end. Several targets: a
    classifier and a distance each, and their mean.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.4.4; the surrogate is ours.
    """

    def __init__(self, view: DomainView, model: DomainModel, weight: Any = 1.0):
        super().__init__()
        self.weight = checked(weight)
        with part("opponent"):
            self.classifiers = nn.ModuleDict({domain: nn.Linear(model.aligned, 1) for domain in view.targets})

    def forward(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        source, others = model.together(batch, targets)
        far, guessed = [], []
        for domain, other in others.items():
            weights, bias = self.classifiers[domain].weight, self.classifiers[domain].bias
            here, there = source.features.float(), other.features.float()
            far.append(_apart(here, there, weights.detach(), bias.detach()).clamp_min(0))
            guessed.append(_apart(here.detach(), there.detach(), weights, bias))
        return {"risk": risk(model, source, batch), "alignment": self.weight * torch.stack(far).mean(),
                "opponent": -torch.stack(guessed).mean()}


def _apart(here: Tensor, there: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    return distances.logistic_a_distance(*(nn.functional.linear(x, weights, bias)[:, 0] for x in (here, there)))


class DomainAdversary(nn.Module):
    """DANN: `risk` of the source, and a classifier that tells domains apart, whose gradient reaches features reversed.

    The factor of the reversal grows with the share p of the training that is done: `lambda (2 / (1 + exp(-10 p)) - 1)`.
    With several targets the classifier tells all domains apart.
    hidden: width of its two hidden layers.  conditional: CDAN: it sees the product of each feature with each predicted
    probability in place of the features; no gradient goes back through the probabilities.
    Source: Y. Ganin and others, Domain-Adversarial Training of Neural Networks, JMLR 17, 2016; conditional: M. Long,
    Z. Cao, J. Wang, M. I. Jordan, Conditional Adversarial Domain Adaptation, NeurIPS 2018, the multilinear map, without
    entropy weights.
    """

    progress = 0.0

    def __init__(self, view: DomainView, model: DomainModel, weight: Any = 1.0, hidden: int = 64,
                 conditional: bool = False):
        super().__init__()
        self.weight, self.conditional = checked(weight), conditional
        inputs = model.aligned * (model.task.out_channels if conditional else 1)
        with part("opponent"):
            self.opponent = nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(),
                                          nn.Linear(hidden, 1 + len(view.targets)))

    def forward(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        source, others = model.together(batch, targets)
        domains = [single(seen) for seen in (source, *others.values())]
        scale = self.weight * (2 / (1 + math.exp(-10 * self.progress)) - 1)
        answers = self.opponent(reversed_gradient(torch.cat([self.shown(seen) for seen in domains]), scale))
        truth = torch.arange(len(domains), device=answers.device).repeat_interleave(len(source.logits))
        return {"risk": risk(model, source, batch), "opponent": nn.functional.cross_entropy(answers, truth)}

    def shown(self, seen: Seen) -> Float[Tensor, "n inputs"]:
        """What the opponent looks at."""
        if not self.conditional:
            return seen.features
        return torch.einsum("nc,nd->ncd", seen.logits.softmax(1).detach(), seen.features).flatten(1)


class ClassifierDiscrepancy(nn.Module):
    """MCD: two classifiers on the same features, which differ where the target lies off the source.

    With d the mean absolute difference of their probabilities on the targets, one step has three updates:
    of all, `risk_1 + risk_2`; of the classifiers, `risk_1 + risk_2 - d`; of the rest, `d`, repeated.
    repeats: of the third update.  The model's own classifier is the first, and answers.
    Source: K. Saito, K. Watanabe, Y. Ushiku, T. Harada, Maximum Classifier Discrepancy for Unsupervised Domain
    Adaptation, CVPR 2018, steps A to C.
    """

    def __init__(self, view: DomainView, model: DomainModel, repeats: Any = 2):
        super().__init__()
        if not is_whole(repeats, 1):
            raise ValueError(f"repeats={repeats!r} is no number of updates; give a whole number from 1 upwards.")
        self.repeats = repeats
        with part("opponent"):
            self.second = nn.Linear(model.aligned, model.task.out_channels)

    def forward(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        """The risks of both classifiers on the source."""
        return self._risks(model, batch, model.together(batch, targets)[0])

    def phases(self, model: DomainModel) -> Sequence[Phase]:
        """See the class."""
        classifiers = [*model.heads.parameters(), *self.parameters()]
        known = {id(parameter) for parameter in classifiers}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
        return [(self, None), (self.apart, classifiers), *[(self.together, rest)] * self.repeats]

    def apart(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        """The risks, and the discrepancy to be made large."""
        source, others = model.together(batch, targets)
        return {**self._risks(model, batch, source), "discrepancy": -self._discrepancy(others)}

    def together(self, model: DomainModel, batch: Batch, targets: Mapping[str, Tensor]) -> Losses:
        """The discrepancy, to be made small."""
        return {"discrepancy": self._discrepancy(model.together(batch, targets)[1])}

    def _risks(self, model: DomainModel, batch: Batch, seen: Seen) -> Losses:
        other = Seen(seen.features, self.second(seen.features))
        return {"risk": risk(model, seen, batch), "risk_2": risk(model, other, batch)}

    def _discrepancy(self, others: Mapping[str, Seen]) -> Tensor:
        found = [(seen.logits.float().softmax(1) - self.second(seen.features).float().softmax(1)).abs().mean()
                 for seen in others.values()]
        return torch.stack(found).mean()


# --- methods --------------------------------------------------------------------------------------------

def a_distance(view: DomainView, build: Build, strategy: Any, setting: Setting, *, weight: Any = 1.0) -> Run:
    """See `LogisticDistance`."""
    model = build(view)
    return adapt(view, model, LogisticDistance(view, model, weight), setting)


def dann(view: DomainView, build: Build, strategy: Any, setting: Setting, *, weight: Any = 1.0) -> Run:
    """See `DomainAdversary`."""
    model = build(view)
    return adapt(view, model, DomainAdversary(view, model, weight), setting)


def cdan(view: DomainView, build: Build, strategy: Any, setting: Setting, *, weight: Any = 1.0) -> Run:
    """See `DomainAdversary`, conditional."""
    model = build(view)
    return adapt(view, model, DomainAdversary(view, model, weight, conditional=True), setting)


def mcd(view: DomainView, build: Build, strategy: Any, setting: Setting, *, repeats: Any = 2) -> Run:
    """See `ClassifierDiscrepancy`."""
    model = build(view)
    return adapt(view, model, ClassifierDiscrepancy(view, model, repeats), setting)
