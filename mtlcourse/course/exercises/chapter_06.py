"""Checks of notebook 06, the theorems on saliency. Imports `exercises`."""

import math
from collections.abc import Callable

from . import NotYet, exercise, expect


@exercise("06.1",
          "A factor that is squared is zero with slope zero. At which points is that needed?",
          "Square each factor x - s, and do not forget the point 0, which needs a squared factor of its own.")
def hides(answer: Callable) -> None:
    """Zero with slope zero at all samples and at zero, by differences, and not zero between."""
    for samples in ([0.5], [-1.0, 0.25, 1.0], [-0.8, -0.3, 0.3, 0.8]):
        d = answer(samples)
        for x in (*samples, 0.0):
            expect(0.0, d(x), f"for the samples {samples}, at {x}")
            expect(0.0, (d(x + 1e-5) - d(x - 1e-5)) / 2e-5, f"for the samples {samples}, the slope at {x}")
        if not any(abs(d(0.11 + k)) > 1e-12 for k in range(-2, 3)):
            raise NotYet(f"for the samples {samples}: it is zero everywhere we looked; it has to hide something")


@exercise("06.2",
          "Unrelated tasks cost L sqrt(m). Set the other form of the repaired middle term equal to that.",
          "Solve L + B / sqrt(2 lambda_2) = L sqrt(m) for B, with lambda_2 = m.")
def begins_to_save(answer: Callable) -> None:
    """Where `L + B / sqrt(2 m)` is `L sqrt(m)`."""
    for m, L in ((2, 1.0), (10, 0.5), (50, 3.0)):
        expect(L * (math.sqrt(m) - 1) * math.sqrt(2 * m), answer(m, L), f"for m = {m} and L = {L}")


@exercise("06.3",
          "With equal heads and one feature map only the last term of theorem 2 is left. When is it below 7/8 - "
          "1/100?",
          "Square sqrt(8 ln(4/delta) / N) < 7/8 - 1/100 and solve for N: the least whole number above that.")
def breaks_from(answer: Callable) -> None:
    """The first number of samples at which the bound is below the excess."""
    for delta in (0.2, 0.05, 0.001):
        samples = 1
        while math.sqrt(8 * math.log(4 / delta) / samples) >= 7 / 8 - 1 / 100:
            samples += 1
        expect(samples, answer(delta), f"for delta = {delta}")
