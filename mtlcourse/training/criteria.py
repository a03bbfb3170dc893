"""Which epoch of an adaptation is kept, without a label of the target; and what an oracle would have kept, apart.

Imports `data`, `files`, `models`, and its folder's `adaptation`, `evaluation`, `loop`, `selection`.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..data import DomainProblem, DomainView
from ..files import unknown
from ..models import DomainModel, Seen
from .adaptation import Answering
from .evaluation import Scores, evaluate
from .loop import Run, Watch
from .selection import Select

WITHOUT_LABELS = ("entropy", "importance")
RULES = ("last", "source", *WITHOUT_LABELS)


def criterion(select: Any, problem: DomainProblem) -> Select:
    """What `fit` is to select by, for a rule in the name of a method that adapts.

    select: "last" (default), the last epoch; "source", the least risk on the source's validation split;
        "importance", the least of this risk with each sample weighted by how much likelier the targets have it, see
        `importance_risk`; "entropy", the least entropy of the predictions on held out inputs of the targets, see
        `entropy`; both are means over targets. What `fit` itself takes, of the source's task, does too.
    Raises ValueError for "oracle", and for a rule that is none.
    """
    if select == "oracle":
        raise ValueError("select=oracle would choose by the target's test labels. What that would have given is in a "
                         f"run's history as split 'oracle', and in its `learned`; to select, use {', '.join(RULES)}.")
    if select == "source":
        return (problem.task.name, "loss")
    if select in WITHOUT_LABELS:
        return functools.partial(_least, select, tuple(problem.task_names))
    if isinstance(select, str) and select not in ("last", "best-val") and ":" not in select:
        raise ValueError(unknown("rule to select by", select, RULES))
    return select


def _least(name: str, domains: Sequence[str], scores: Mapping[str, Mapping[str, float]]) -> float:
    return -math.fsum(scores[domain][name] for domain in domains) / len(domains)


def watching(problem: DomainProblem, select: Any) -> Watch:
    """What looks at a model after each epoch: criteria without labels, and apart, as "oracle", the test scores."""
    view, sealed = problem.view, problem.sealed()

    def watch(model: nn.Module) -> dict[str, Scores]:
        return {"val": criteria(model, view, select == "importance"), "oracle": evaluate(Answering(model), sealed)}
    return watch


def criteria(model: Any, view: DomainView, importance: bool = False) -> Scores:
    """`{domain: {"entropy": ..., "importance": ...}}` of each target; the latter takes time, and comes if asked for."""
    found = {domain: {"entropy": entropy(_seen(model, split.inputs).logits)} for domain, split in view.held_out.items()}
    if importance:
        task = view.task
        known = _seen(model, view.source.train.inputs).features
        held = _seen(model, view.source.val.inputs)
        losses = task.loss(held.logits, view.source.val.targets[task.name].to(held.logits.device))
        for domain, split in view.targets.items():
            there = _seen(model, split.inputs).features
            found[domain]["importance"] = importance_risk(held.features, losses, known, there)
    return found


def entropy(logits: Float[Tensor, "n classes"]) -> float:
    """The mean over samples of `-sum_c p_c log p_c`, p the softmax: small where a model is sure, right or wrong.

    Source: P. Morerio, J. Cavazza, V. Murino, Minimal-Entropy Correlation Alignment for Unsupervised Deep Domain
    Adaptation, ICLR 2018.
    """
    logs = logits.double().log_softmax(1)
    return -(logs.exp() * logs).sum(1).mean().item()


def importance_risk(features: Float[Tensor, "n d"], losses: Float[Tensor, "n"], source: Float[Tensor, "a d"],
                    target: Float[Tensor, "b d"]) -> float:
    """`1/n sum_i w(f_i) l_i`: the source's held out losses l, weighted by the ratio w of the domains' densities at f_i.

    w comes from a logistic regression that tells the training features of source and target apart:
    `w(f) = (a / b) p(target | f) / p(source | f)`. Where the domains do not overlap no weight helps.
    Source: M. Sugiyama, M. Krauledat, K.-R. Müller, Covariate Shift Adaptation by Importance Weighted Cross Validation,
    JMLR 8, 2007; on learned features as in K. You and others, Towards Accurate Model Selection in Deep Unsupervised
    Domain Adaptation, ICML 2019, without that paper's control variate.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    both = torch.cat([source, target]).double().cpu().numpy()
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    classifier.fit(both, [0] * len(source) + [1] * len(target))
    logs = torch.from_numpy(classifier.decision_function(features.double().cpu().numpy()))
    weights = logs.clamp(-30, 30).exp() * (len(source) / len(target))
    return (weights * losses.double().cpu()).mean().item()


def oracle(run: Run) -> dict[str, dict[str, int | float]]:
    """What selecting by target test labels would have given: `{domain: {"epoch": e, measure: best value}}`.

    By each target's first measure, on the samples that it is then judged by: no selection can be better, and none may
    do it. To be shown beside what was selected, never in its place.
    """
    rows = run.history[run.history["split"] == "oracle"]
    found: dict[str, dict[str, int | float]] = {}
    for domain, directions in run.higher_is_better.items():
        measure = next(iter(directions))
        own = rows[(rows["task"] == domain) & (rows["name"] == measure)]
        if len(own):
            place = own["value"].idxmax() if directions[measure] else own["value"].idxmin()
            found[domain] = {"epoch": int(own["epoch"][place]), measure: float(own["value"][place])}
    return found


@torch.no_grad()
def _seen(model: DomainModel, inputs: Tensor, batch_size: int = 512) -> Seen:
    """What the model makes of many inputs, in evaluation mode; its modes stay as they were."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    model.eval()
    try:
        seen = [model.look(x.to(device)) for x in inputs.split(batch_size)]
    finally:
        for module, training in modes.items():
            module.training = training
    return Seen(torch.cat([part.features for part in seen]), torch.cat([part.logits for part in seen]))
