"""The measure of tagging that counts chunks, not words. Imports `metrics.base` and `void`."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float64, Int64, Integer
from torch import Tensor

from ..void import valid_mask
from .base import Metric, decide, divide, require

SCHEMES = ("plain", "bio")
OUTSIDE = -1


class ChunkF1(Metric):
    """F1 of chunks, `2 correct / (true + found)`; k = 3: true, found and correct chunks.

    A chunk is a run of places of one type; it is correct if it was found with the same first place, last place and
    type. Places without label are left out before chunks are cut, so that the later pieces of a word part nothing.

    tags: their names, in the order of the classes.
    scheme: "plain", every tag is a type, and equal neighbours are one chunk, as for parts of speech; or "bio", names
        are `O` for outside, `B-TYPE` for the first place of a chunk and `I-TYPE` for those behind it. An `I-TYPE`
        that continues no chunk of its type begins one.
    NaN where there is no chunk, neither true nor found.
    Raises ValueError for fewer than two tags, equal ones, an unknown scheme, and names that are not of the scheme.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, which prints "F1" alone. This is what the
    usual scorer, seqeval, makes of both kinds of tags in its default mode, but for one thing: of plain tags it takes a
    first letter B, E, S or O for a mark, so that equal neighbours SYM are two chunks, and ONOM is outside. Here all
    plain tags are alike.

    >>> metric = ChunkF1(["DET", "NOUN"])
    >>> metric.update(torch.eye(2)[torch.tensor([[0, 1, 1, 0]])].mT, torch.tensor([[0, 1, 1, 1]]))
    >>> metric.compute()  # true: DET, NOUN; found: DET, NOUN, DET; one of them is correct
    0.4
    """

    kind = "classification"
    k = 3

    def __init__(self, tags: Sequence[str], scheme: str = "plain"):
        self.tags = tuple(tags)
        self.scheme = scheme
        require(scheme in SCHEMES, f"scheme={scheme!r} is not known; use {' or '.join(map(repr, SCHEMES))}.")
        require(len(set(self.tags)) == len(self.tags) > 1, f"ChunkF1 needs two or more different tags, and was given "
                                                           f"{list(self.tags)}.")
        self._type, self._begins = _cut(self.tags, scheme)
        super().__init__()

    def rows(self, prediction: Tensor, target: Tensor) -> Float64[Tensor, "batch 3"]:
        require(prediction.shape[1] == len(self.tags) and prediction.dim() == 3,
                f"ChunkF1 of {len(self.tags)} tags needs predictions (batch, {len(self.tags)}, places), and was given "
                f"{tuple(prediction.shape)}.")
        found, true, there = _closed_up(decide(prediction), target)
        of_true, of_found = self._chunks(true, there), self._chunks(found, there)
        correct = (of_true == of_found).all(-1) & (of_true[..., 0] >= 0)
        counted = (of_true[..., 0] >= 0, of_found[..., 0] >= 0, correct)
        return torch.stack([chunks.sum(1) for chunks in counted], dim=1).double()

    def _chunks(self, tags: Integer[Tensor, "batch places"], there: Bool[Tensor, "batch places"]
                ) -> Int64[Tensor, "batch places 2"]:
        """For each place that ends a chunk where it began and its type, and (-1, -1) for all others."""
        kind = self._type.to(tags.device)[tags].masked_fill(~there, OUTSIDE)
        edge = torch.full_like(kind[:, :1], OUTSIDE)
        goes_on = (torch.cat([edge, kind[:, :-1]], 1) == kind) & ~self._begins.to(tags.device)[tags]
        begins = (kind != OUTSIDE) & ~goes_on
        ends = (kind != OUTSIDE) & ~torch.cat([goes_on[:, 1:], torch.zeros_like(goes_on[:, :1])], 1)
        place = torch.arange(tags.shape[1], device=tags.device).expand_as(tags)
        began = place.masked_fill(~begins, 0).cummax(1).values
        return torch.stack([began, kind], dim=-1).masked_fill(~ends[..., None], -1)

    def value(self, total: Float64[Tensor, "3"]) -> float:
        return self.values(total[None]).item()

    def values(self, totals: Float64[Tensor, "many 3"]) -> Float64[Tensor, "many"]:
        chunks = totals[:, 0] + totals[:, 1]
        return divide(2 * totals[:, 2], chunks).masked_fill(chunks == 0, math.nan)

    def _options(self) -> dict:
        return {"tags": self.tags, "scheme": self.scheme}


def _cut(tags: tuple[str, ...], scheme: str) -> tuple[Int64[Tensor, "tags"], Bool[Tensor, "tags"]]:
    """The type of each tag, a number or `OUTSIDE`, and whether it begins a chunk whatever stands before it."""
    if scheme == "plain":
        return torch.arange(len(tags)), torch.zeros(len(tags), dtype=torch.bool)
    types: list[str] = []
    for tag in tags:
        mark, _, kind = tag.partition("-")
        require(tag == "O" or (mark in ("B", "I") and bool(kind)),
                f"{tag!r} is no tag of scheme 'bio', whose tags are 'O', 'B-TYPE' and 'I-TYPE'.")
        types.append(kind)
    names = sorted(set(types) - {""})
    return (torch.tensor([names.index(kind) if kind else OUTSIDE for kind in types]),
            torch.tensor([tag.startswith("B-") for tag in tags]))


def _closed_up(found: Integer[Tensor, "batch places"], true: Integer[Tensor, "batch places"]
               ) -> tuple[Tensor, Tensor, Bool[Tensor, "batch places"]]:
    """Both rows of tags with the labelled places moved to the front, in order, and where these are."""
    valid = valid_mask(true)
    order = (~valid).to(torch.uint8).argsort(dim=1, stable=True)
    there = valid.gather(1, order)
    return found.gather(1, order), true.long().gather(1, order).masked_fill(~there, 0), there
