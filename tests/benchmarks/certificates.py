"""How fast certificates are made, and how wide their bounds are, of 100,000 samples, 9 tasks and 5 measures.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/certificates.py [betting bootstrap width]`. Times are those of
the processor, on one thread: other work on the machine does not count.
"""

import itertools
import time

import numpy as np
from core import measure, verdict

from mtlcourse import data, metrics
from mtlcourse.safety import certificate_of
from mtlcourse.tasks import Problem, Task
from mtlcourse.training.samples import Samples

N, TASKS, MEASURES, SECONDS = 100_000, 9, 5, 15.0


def described() -> Problem:
    like = data.classification("like", 10)
    measures = {f"brier_{j}": metrics.Brier for j in range(MEASURES)}
    return Problem("many", [Task(f"t{t}", like.loss, measures, 10) for t in range(TASKS)], None, None, None, (4,),
                   {"name": "mlp", "widths": [4]})


def two_networks() -> tuple[Samples, Samples]:
    """Brier scores of two networks that mostly agree."""
    random = np.random.default_rng(0)

    def measured(other: np.ndarray) -> np.ndarray:
        near = random.random(N) < 0.9
        return np.stack([np.where(near, other, random.random(N) ** 4), np.ones(N)], 1)

    first = {f"t{t}": {f"brier_{j}": random.random(N) ** 4 for j in range(MEASURES)} for t in range(TASKS)}
    labelled = {task: np.ones(N, bool) for task in first}
    own, other = ({task: {name: measured(values) for name, values in rows.items()} for task, rows in first.items()}
                  for _ in range(2))
    return Samples("test", None, own, labelled, None), Samples("test", None, other, labelled, None)


def timed(bound: str, **options) -> None:
    problem, both = described(), two_networks()
    before = time.process_time()
    certificate = certificate_of(*both, problem, bound=bound, **options)
    seconds = time.process_time() - before
    half = ((certificate.frame["high"] - certificate.frame["low"]) / 2).median()
    print(f"{bound}: {len(certificate.frame)} rows of {N:,} samples in {seconds:.1f} s, half width {half:.2g}")
    verdict(f"{bound}, of {SECONDS:.0f} s", seconds / SECONDS, 1.0)


def betting() -> None:
    """Exact bounds of all 45 rows."""
    timed("betting")


def bootstrap() -> None:
    """2,000 draws, the same for all 45 rows."""
    timed("bootstrap", draws=2000)


def width() -> None:
    """Half widths on 4,000 samples over the normal one, which is not exact: `lost` of the disagreements are losses."""
    random = np.random.default_rng(0)
    like = data.classification("like", 10)
    problem = Problem("one", [like], None, None, None, (4,), {"name": "mlp", "widths": [4]})
    for rate, lost in itertools.product((0.02, 0.06, 0.2), (0.5, 0.7, 0.9)):
        difference = random.choice([0, 1, -1], p=[1 - rate, rate * (1 - lost), rate * lost], size=4000)
        own, other = difference > 0, difference < 0
        both = [Samples("test", None, {"like": {"accuracy": np.stack([hits, np.ones(4000)], 1).astype(float)}},
                        {"like": np.ones(4000, bool)}, None) for hits in (own, other)]
        normal = 1.645 * (own.astype(float) - other).std() / 4000**0.5
        ratios = {bound: certificate_of(*both, problem, bound=bound).frame.eval("high - low").item() / 2 / normal
                  for bound in ("auto", "betting", "bernstein", "bootstrap")}
        print(f"{rate:.0%} disagree, {lost:.0%} of them lost, over the normal bound: "
              + ", ".join(f"{'binomial' if bound == 'auto' else bound} {ratio:.2f}" for bound, ratio in ratios.items()))


if __name__ == "__main__":
    measure({"betting": betting, "bootstrap": bootstrap, "width": width})
