"""Checks of notebook 12, soft sharing. Imports `exercises`."""

from collections.abc import Callable

import torch

from . import exercise, expect


@exercise("12.1",
          "Which weights say 'my own features alone'? Only the taker's row keeps what it is.",
          "Make an identity over the two task dimensions, the same for every channel, and copy row `taker` of w into "
          "it.")
def one_way(answer: Callable) -> None:
    """The taker's row as it is, the identity's row for every other task; w itself stays as it was."""
    w = torch.rand(3, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for taker in (1, 2):
        expected = torch.eye(3, dtype=torch.float64)[:, :, None].repeat(1, 1, 2)
        expected[taker] = w[taker]
        given = w.clone()
        got = answer(given, taker)
        for t in range(3):
            expect(expected[t], got[t], f"for three tasks, two channels, taker={taker}: weights of task {t}, a row for "
                                        "each task it takes from")
        expect(w, given, "the weights that were given to the function, afterwards")


@exercise("12.2",
          "topk returns both the values and where they stood; the rest is zeros, and a division.",
          "Scatter the values of topk, divided by their sum in each row, into a tensor of zeros at their places.")
def largest(answer: Callable) -> None:
    """The k largest shares of each sample over their sum, zero elsewhere."""
    shares = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [0.2, 0.45, 0.35]], dtype=torch.float64)
    # In the second sample two shares are equal, so which of them is the second largest is nobody's to say.
    expect([[0.0, 0.0, 1.0]], answer(shares[1:2].clone(), 1), "for shares=[[0.1, 0.1, 0.8]], k=1")
    pairs = torch.tensor([[0.625, 0.375, 0.0], [0.0, 0.5625, 0.4375]], dtype=torch.float64)
    expect(pairs, answer(shares[[0, 2]], 2), "for shares=[[0.5, 0.3, 0.2], [0.2, 0.45, 0.35]], k=2")
    expect(shares, answer(shares.clone(), 3), "with k=3, as many as there are")
