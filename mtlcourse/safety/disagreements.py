"""Two networks, each right or wrong on every sample: an exact bound for the difference of their accuracies.

Imports nothing of the package. Only the samples on which the two disagree tell them apart.
"""


def at_least(gained: int, lost: int, n: int, delta: float) -> float:
    """The exact lower bound, at confidence 1 - delta, for how much more often the first network is right, in [-1, 1].

    Of n independent samples the first network alone is right on `gained` = b, the second alone on `lost`. With theta
    the probability that they disagree and p that the first is right when they do, the difference is
    `D = theta (2p - 1)`. The bound inverts a test of `D <= m` for every m in [-1, 1]: with N = b + lost, rejected is m
    if

        P(Bin(N, (1 + m / theta) / 2) >= b) <= delta (1 - |m|)

    for the theta in its Clopper-Pearson bound at level delta |m| that is worst: the upper bound where m < 0, the lower
    one where m > 0. Then theta misses its bound with probability delta |m|, and b is so large by chance with no more
    than the rest (Berger and Boos' way with a parameter that one does not ask about). The true D is rejected with
    probability at most delta.

    At m = 0 theta does not matter, the test is the binomial one (the sign test, McNemar's exact test) at level delta,
    and so the two cannot contradict one another: the bound is positive exactly if that test rejects. Further away the
    share |m| of delta buys what is to be known of theta. The set of rejected m is an interval for delta <= 1/4, since
    `P(Bin(N, p) >= b)` is convex in p up to where it is small: cutting p by a factor cuts it by more.

    For the sign of D nothing is lost. For its size betting comes closer where most disagreements go one way, since
    theta then matters most. n without a disagreement: about -log(1 / (delta |bound|)) / n, never 0.
    Raises ValueError unless 0 < delta <= 1/4 and the counts are possible.
    Sources: Clopper and Pearson, The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial,
    1934; Berger and Boos, P Values Maximized Over a Confidence Set for the Nuisance Parameter, 1994. The share delta
    |m| is ours.

    >>> round(at_least(30, 10, 1000, 0.05), 4), at_least(26, 14, 1000, 0.05) > 0, at_least(25, 15, 1000, 0.05) > 0
    (0.0049, True, False)
    """
    if not (0 < delta <= 0.25 and gained >= 0 and lost >= 0 and 0 < n >= gained + lost):
        raise ValueError(f"{gained} samples gained and {lost} lost of {n}, delta={delta}: the bound needs counts that "
                         "add up to at most n, and 0 < delta <= 0.25.")
    rejected, kept = -1.0, (gained - lost) / n  # of these two the first is always so, and the second never
    while kept - rejected > 1e-10:
        m = (rejected + kept) / 2
        if _tail(gained, lost, n, m, delta * abs(m)) <= delta * (1 - abs(m)):
            rejected = m
        else:
            kept = m
    return rejected


def _tail(gained: int, lost: int, n: int, m: float, level: float) -> float:
    """The largest probability that `D <= m` leaves to as many gains, with theta inside its bound."""
    from scipy.special import betainc, betainccinv, betaincinv

    differing = gained + lost
    if m < 0:
        theta = betainccinv(differing + 1, n - differing, level) if differing < n else 1.0
    else:
        theta = betaincinv(differing, n - differing + 1, level) if differing else 0.0
    if abs(m) >= theta and m != 0:  # so large a difference takes more disagreements
        return 0.0 if m < 0 else 1.0
    p = (1 + (m / theta if m else 0.0)) / 2
    return float(betainc(gained, lost + 1, p)) if gained else 1.0
