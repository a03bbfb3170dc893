"""Checks of notebook 18, aligning domains and searching for an architecture. Imports `exercises`, `search`."""

from collections.abc import Callable

import torch

from ...search.alignment import AlignmentSpace
from . import NotYet, exercise, expect


@exercise("18.1",
          "Instead of the best match alone all of them count. Which weights favour large cosines, and sum to one?",
          "Softmax of cosines / tau over the other domain's samples, times the cosines, summed; then the mean, and "
          "the same the other way.")
def soft(answer: Callable) -> None:
    """A mean over matches, weighted by a softmax, in both directions."""
    random = torch.Generator().manual_seed(18)
    s, t = (torch.randn(n, 4, generator=random, dtype=torch.float64) for n in (5, 3))
    plane = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    for one, other, tau, what in ((plane, plane, 0.5, "for two orthogonal samples in both domains and tau = 0.5"),
                                  (s, t, 0.1, "for random batches of 5 and 3 and tau = 0.1"),
                                  (s[:1], t[:1], 0.1, "for a single pair")):
        expected = 0.0
        for a, b in ((one, other), (other, one)):
            for x in a:
                cosines = torch.stack([torch.cosine_similarity(x, y, dim=0) for y in b])
                weights = (cosines / tau).exp()
                expected += ((weights * cosines).sum() / weights.sum()).item() / len(a)
        expect(expected, answer(one, other, tau), what)


@exercise("18.2",
          "Write the spread's square as a function of b: only sum p (R - b)^2 |grad log p|^2 depends on it.",
          "A mean of R with weights p times the squared length of (unit vector - p).")
def best_baseline(answer: Callable) -> None:
    """The mean reward, weighted by probability and by the squared length of the gradient of its logarithm."""
    for probabilities, rewards in (([0.5, 0.3, 0.2], [1.0, 2.0, 4.0]), ([0.25] * 4, [1.0, 0.0, 0.0, 3.0]),
                                   ([0.9, 0.1], [0.0, 1.0])):
        p, R = (torch.tensor(values, dtype=torch.float64) for values in (probabilities, rewards))
        lengths = torch.stack([(torch.eye(len(p), dtype=p.dtype)[a] - p).square().sum() for a in range(len(p))])
        expect((p * lengths * R).sum() / (p * lengths).sum(), answer(p, R),
               f"for p = {probabilities} and R = {rewards}")


@exercise("18.3",
          "Two cells may differ and the aligned one still be on the way. How does one walk from `classify` backwards?",
          "From `classify`, follow input_k of cell_k until the backbone; true if `align` was not met.")
def beside(answer: Callable) -> None:
    """Whether the classifier's way, walked backwards, misses the aligned cell."""
    space = AlignmentSpace()
    for number in range(0, len(space), 97):
        configuration = space[number]
        connections = {name: option for name, option in configuration.items() if not name.startswith(("size", "skip"))}
        if bool(answer(dict(configuration))) != space.beside(configuration):
            raise NotYet(f"for {connections}: expected {space.beside(configuration)}, got "
                         f"{not space.beside(configuration)}")
