"""How far apart two domains are: distances between a batch of source features and one of target features.

Ground floor: imports nothing of the package. All but `proxy_a_distance` are differentiable, and what a network is
trained with. Rows are samples; the two batches may differ in size.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

WIDTHS = (4.0, 2.0, 1.0, 0.5, 0.25)  # of the Gaussian kernels, times the median squared distance; each half the last


def population_correlation(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """PC: how well every sample is matched by the best one of the other domain; more is more alike.

    `1/n sum_i max_j corr(s_i, t_j) + 1/m sum_j max_i corr(s_i, t_j)` with corr the cosine, between -2 and 2, the same
    when the domains change places. A vector of zeros has no direction: its cosine is 0.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, equation 4.1.

    >>> x = torch.eye(3)
    >>> float(population_correlation(x, 5 * x)), float(population_correlation(x, -x))
    (2.0, 0.0)
    """
    _check(source, target)
    cosines = normalize(source, dim=1) @ normalize(target, dim=1).T
    return cosines.max(1).values.mean() + cosines.max(0).values.mean()


def proxy_a_distance(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"], seed: int = 0) -> float:
    """`2 (1 - 2 err)` with err the error of a linear classifier that tells the domains apart: 0 alike, 2 apart.

    Logistic regression learns on one half of each domain, standardised, and err is the mean of its error rates on the
    other half of either, so that unequal numbers do not matter. It can fall a little below 0 by chance.
    Not differentiable: `logistic_a_distance` stands in for it while training.
    seed: which halves. Raises ValueError for fewer than four samples in a domain.
    Source: S. Ben-David, J. Blitzer, K. Crammer, F. Pereira, Analysis of Representations for Domain Adaptation, NIPS
    2006.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(source, target, least=4)
    generator = torch.Generator().manual_seed(seed)
    halves = [x.detach().double().cpu()[torch.randperm(len(x), generator=generator)].tensor_split(2)
              for x in (source, target)]
    learned, judged = (torch.cat([halves[0][k], halves[1][k]]).numpy() for k in (0, 1))
    domain = [[0] * len(halves[0][k]) + [1] * len(halves[1][k]) for k in (0, 1)]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000, class_weight="balanced"))
    wrong = torch.from_numpy(classifier.fit(learned, domain[0]).predict(judged) != domain[1]).double()
    error = (wrong[: len(halves[0][1])].mean() + wrong[len(halves[0][1]) :].mean()) / 2
    return 2 * (1 - 2 * error.item())


def logistic_a_distance(source: Float[Tensor, "n"], target: Float[Tensor, "m"]) -> Float[Tensor, ""]:
    """The logistic surrogate of `proxy_a_distance`: `2 (1 - CE / log 2)` from a classifier's logits on both domains.

    CE is the mean of the cross-entropies on the two domains; logits are those of "this is the target". 0 where the
    classifier guesses, towards 2 where it is sure and right. CE / log 2 bounds twice the error from above, so this
    bounds the distance that the same classifier shows from below.
    """
    zeros, ones = torch.zeros_like(source), torch.ones_like(target)
    entropy = (binary_cross_entropy_with_logits(source, zeros) + binary_cross_entropy_with_logits(target, ones)) / 2
    return 2 * (1 - entropy / math.log(2))


def kl(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """`sum_k p_k log(p_k / q_k)` with p and q the means over a domain's samples of the softmax of their features.

    The source does not say between which distributions its divergence is; these need no density of the features. At
    least 0, and not the same when the domains change places.

    >>> float(kl(torch.zeros(2, 3), torch.ones(5, 3)))
    0.0
    """
    _check(source, target)
    p, q = (torch.logsumexp(x.log_softmax(1), 0) - math.log(len(x)) for x in (source, target))
    return (p.exp() * (p - q)).sum()


def mmd(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """Squared maximum mean discrepancy, the unbiased estimate: `E k(s, s') + E k(t, t') - 2 E k(s, t)`.

    k is the mean of Gaussian kernels `exp(-|a - b|^2 / (w median))`, w in `WIDTHS`, the median that of all squared
    distances between different samples. No sample is paired with itself, so equal domains give 0 on average and not
    always: it can be negative. Raises ValueError for fewer than two samples in a domain.
    Source: A. Gretton and others, A Kernel Two-Sample Test, JMLR 13, 2012, equation 3; several kernels as in M. Long
    and others, Learning Transferable Features with Deep Adaptation Networks, ICML 2015.
    """
    return discrepancy(gaussian_kernels(torch.cat([source, target])), len(source))


def gaussian_kernels(x: Float[Tensor, "n d"]) -> Float[Tensor, "n n"]:
    """The mean of Gaussian kernels between all rows, see `mmd`."""
    x = x - x.mean(0)  # closer to 0, where products of differences lose less
    lengths = x.square().sum(1)
    squares = (lengths[:, None] + lengths - 2 * x @ x.T).clamp_min(0)
    n = len(x)
    different = squares.detach().flatten()[1:].view(n - 1, n + 1)[:, :-1]  # all but the diagonal
    kernel = torch.exp(-squares / (max(WIDTHS) * different.median().clamp_min(torch.finfo(x.dtype).tiny)))
    kernels = [kernel]
    for _ in WIDTHS[1:]:
        kernels.append(kernels[-1].square())  # half the width
    return torch.stack(kernels).mean(0)


def discrepancy(kernel: Float[Tensor, "both both"], n: int) -> Float[Tensor, ""]:
    """The unbiased estimate of `mmd` from a kernel between all samples, the n of the source first."""
    m = len(kernel) - n
    if min(n, m) < 2:
        raise ValueError(f"Batches of {n} and {m} samples: the discrepancy compares pairs within each domain; take two "
                         "samples of each at least.")
    within = [(block.sum() - block.diagonal().sum()) / (len(block) * (len(block) - 1))
              for block in (kernel[:n, :n], kernel[n:, n:])]
    return within[0] + within[1] - 2 * kernel[:n, n:].mean()


def coral(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
    """`|C_s - C_t|_F^2 / (4 d^2)` with C the covariance of a domain's features; means do not count.

    Raises ValueError for fewer than two samples in a domain.
    Source: B. Sun, K. Saenko, Deep CORAL: Correlation Alignment for Deep Domain Adaptation, 2016, equation 1.
    """
    _check(source, target, least=2)
    difference = torch.cov(source.T) - torch.cov(target.T)
    return difference.square().sum() / (4 * source.shape[1] ** 2)


def cmd(source: Float[Tensor, "n d"], target: Float[Tensor, "m d"], moments: int = 5,
        interval: float = 1.0) -> Float[Tensor, ""]:
    """Central moment discrepancy: `|m(s) - m(t)| / w + sum_k |c_k(s) - c_k(t)| / w^k`, k from 2 to `moments`.

    m is the mean, c_k the k-th central moment of each feature, and w the length of the `interval` in which features
    lie: the distance is meant for bounded ones.
    Source: W. Zellinger and others, Central Moment Discrepancy (CMD) for Domain-Invariant Representation Learning, ICLR
    2017, definition 2.
    """
    _check(source, target)
    means = source.mean(0), target.mean(0)
    total = torch.linalg.vector_norm(means[0] - means[1]) / interval
    for k in range(2, moments + 1):
        central = [(x - mean).pow(k).mean(0) for x, mean in zip((source, target), means, strict=True)]
        total = total + torch.linalg.vector_norm(central[0] - central[1]) / interval**k
    return total


def _check(source: Tensor, target: Tensor, least: int = 1) -> None:
    if min(len(source), len(target)) < least:
        raise ValueError(f"Batches of {len(source)} and {len(target)} samples: this distance takes {least} of each "
                         "domain at least.")
