"""What aligning domains costs, and what searching for the cells costs on top.

Run by hand: `OMP_NUM_THREADS=1 python tests/benchmarks/alignment.py [pc search fast]`. What is compared runs in turns,
and medians are printed.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time  # noqa: E402
from collections.abc import Callable  # noqa: E402

import torch  # noqa: E402
from core import interleaved, measure, verdict  # noqa: E402

from mtlcourse import data, methods  # noqa: E402
from mtlcourse.metrics import distances  # noqa: E402

REPEATS, WIDTH = 15, 256
DIGITS = [("optdigits", "mnist"), ("mnist", "optdigits")]


def pc() -> None:
    """The population correlation of two batches and its gradient, over one product of two matrices of that size.

    The product is (n, d) by (d, n), forwards and backwards, as the correlation needs it anyway.
    """
    for n in (128, 512, 2048):
        torch.manual_seed(0)
        s, t = (torch.randn(n, WIDTH, requires_grad=True) for _ in range(2))
        ones = torch.ones(n, n)

        def correlation(s=s, t=t) -> None:
            distances.population_correlation(s, t).backward()

        def product(s=s, t=t, ones=ones) -> None:
            (s @ t.T).backward(ones)

        taken = interleaved(REPEATS, correlation=correlation, product=product)
        verdict(f"population correlation over a matrix product, batches of {n}",
                taken["correlation"] / taken["product"], 3)


def search() -> None:
    """An epoch of a search over one of plain training with PC, and over one whose configuration is drawn by lot."""
    problem = data.domains("digit_domains", source="optdigits", target="mnist")

    def training(name: str) -> Callable[[], float]:
        return lambda: methods.run(name, problem, budget="fast(epochs=10)", progress=False).cost["seconds"]

    taken = interleaved(7, search=training("aaspc"), plain=training("pc"), lot=training("aaspc(controller=random)"))
    verdict("an epoch of a search over one of plain training", taken["search"] / taken["plain"], 1.2)
    verdict("an epoch with a controller over one without", taken["search"] / taken["lot"], 1.2)


def fast() -> None:
    """Seconds of runs of the budget "fast", start to finish."""
    for source, target in DIGITS:
        problem = data.domains("digit_domains", source=source, target=target)
        for name in ("source-only", "pc", "aaspc"):
            start = time.perf_counter()
            run = methods.run(name, problem, progress=False)
            verdict(f"seconds of {name}, {source} to {target}, {run.metrics[target]['accuracy']:.2f} accurate",
                    time.perf_counter() - start, 60)


if __name__ == "__main__":
    measure({"pc": pc, "search": search, "fast": fast})
