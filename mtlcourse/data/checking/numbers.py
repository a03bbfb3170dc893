"""What is kept of numbers that pass by once: their moments, extremes, and how pairs of them go together.

Imports nothing of the project.
"""

import torch
from torch import Tensor


class Moments:
    """Of each channel: how many numbers, their mean and variance, the smallest and the largest; NaN and inf left out.

    Batches are (samples, channels, elements) of any real or whole type. Parts are put together as in T. F. Chan,
    G. H. Golub and R. J. LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979.

    >>> moments = Moments(1)
    >>> moments.update(torch.tensor([[[1.0, 3.0]], [[5.0, float("nan")]]]))
    >>> moments.number.tolist(), moments.mean.tolist(), round(moments.deviation.item() ** 2, 3)
    ([3.0], [3.0], 2.667)
    """

    def __init__(self, channels: int):
        self.number, self.mean, self.squares = torch.zeros(3, channels, dtype=torch.float64)
        self.least = torch.full((channels,), float("inf"), dtype=torch.float64)
        self.most = -self.least

    def update(self, x: Tensor) -> None:
        """Add a batch (samples, channels, elements)."""
        if not x.is_floating_point():
            x = x.float() if x.dtype != torch.int64 else x.double()
        least, most = x.amin((0, 2)).double().cpu(), x.amax((0, 2)).double().cpu()
        if bool((torch.isfinite(least) & torch.isfinite(most)).all()):
            elements = x.shape[2]
            each = torch.var_mean(x, 2, correction=0) if elements > 1 else (torch.zeros_like(x[..., 0]), x[..., 0])
            variances, means = (part.double().cpu() for part in each)  # of each sample: rows lie together in memory
            number, mean = torch.full_like(least, x.shape[0] * elements), means.mean(0)
            squares = elements * (variances + (means - mean).square()).sum(0)
        else:
            finite = torch.isfinite(x)
            number = finite.sum((0, 2)).double().cpu()
            there = number.clamp(min=1)
            mean = x.masked_fill(~finite, 0).sum((0, 2), dtype=torch.float64).cpu() / there
            off = (x - mean.to(x)[:, None]).masked_fill(~finite, 0)
            squares = off.square().sum((0, 2), dtype=torch.float64).cpu()
            least = x.masked_fill(~finite, float("inf")).amin((0, 2)).double().cpu()
            most = x.masked_fill(~finite, float("-inf")).amax((0, 2)).double().cpu()
        whole = (self.number + number).clamp(min=1)
        step = mean - self.mean
        self.squares += squares + step.square() * self.number * number / whole
        self.mean += step * number / whole
        self.number += number
        self.least, self.most = torch.minimum(self.least, least), torch.maximum(self.most, most)

    @property
    def deviation(self) -> Tensor:
        """Standard deviation of each channel; 0 where all its numbers are the same."""
        found = (self.squares / self.number.clamp(min=1)).sqrt()
        return found.masked_fill(self.least == self.most, 0)

    @property
    def whole(self) -> tuple[float, float]:
        """Mean and standard deviation of all channels taken together."""
        number = self.number.sum().clamp(min=1)
        mean = (self.mean * self.number).sum() / number
        squares = (self.squares + self.number * (self.mean - mean).square()).sum()
        return mean.item(), (squares / number).sqrt().item()


class Together:
    """How columns go together where both are known: class against class, and number against number.

    counts: (labels of all tasks, same), how many elements have both labels.
    Sums over pairs of numbers, of what is left after a fixed shift, give their correlations.
    """

    def __init__(self) -> None:
        self.counts: Tensor | None = None
        self.shift: Tensor | None = None

    def add_classes(self, labels: Tensor, classes: list[int]) -> None:
        """labels: (elements, tasks), below 0 where there is none."""
        hot = torch.zeros(len(labels), sum(classes))
        start = 0
        for column, number in enumerate(classes):
            known = (labels[:, column] >= 0).nonzero().flatten()
            hot[known, labels[known, column] + start] = 1
            start += number
        counts = (hot.T @ hot).double()
        self.counts = counts if self.counts is None else self.counts + counts

    def add_numbers(self, values: Tensor) -> None:
        """values: (elements, columns), NaN where there is none."""
        values = values.double()
        known = torch.isfinite(values)
        if self.shift is None:
            there = known.sum(0).clamp(min=1)
            self.shift = values.masked_fill(~known, 0).sum(0) / there
            self.number, self.sums, self.squares, self.products = torch.zeros(4, values.shape[1], values.shape[1],
                                                                              dtype=torch.float64)
        off = (values - self.shift).masked_fill(~known, 0)
        mask = known.double()
        self.number += mask.T @ mask
        self.sums += off.T @ mask
        self.squares += off.square().T @ mask
        self.products += off.T @ off

    def correlations(self) -> Tensor:
        """(columns, columns); NaN where there are fewer than three pairs, or one of the two does not move."""
        number = self.number.clamp(min=1)
        variance = self.squares - self.sums.square() / number
        scale = (variance * variance.T).sqrt()
        moves = variance > 1e-12 * self.squares.clamp(min=1e-300)
        found = (self.products - self.sums * self.sums.T / number) / scale
        return found.masked_fill((self.number < 3) | ~moves | ~moves.T, float("nan"))
