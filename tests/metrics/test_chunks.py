"""Chunks of tags, against a count by hand over all short sequences, in both schemes."""

import itertools
import math

import pytest
import torch

from mtlcourse import metrics
from mtlcourse.void import VOID

PLAIN = ("DET", "NOUN", "VERB")
BIO = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def chunks_of(tags, scheme):
    """`{(first, last, type)}` of a list of names, read from left to right."""
    found, open_chunk = set(), None
    for place, tag in enumerate([*tags, None]):
        mark, kind = (None, None) if tag in (None, "O") and scheme == "bio" else (
            ("I", tag) if scheme == "plain" else tuple(tag.split("-")))
        if open_chunk and (kind != open_chunk[1] or mark == "B"):
            found.add((open_chunk[0], place - 1, open_chunk[1]))
            open_chunk = None
        if kind is not None and open_chunk is None:
            open_chunk = (place, kind)
    return found


def scores(tags, numbers):
    """Logits that choose these classes: (sequences, classes, places)."""
    return torch.eye(len(tags))[numbers].mT


def all_of(tags, length=5):
    return torch.tensor(list(itertools.product(range(len(tags)), repeat=length)))


@pytest.mark.parametrize(("tags", "scheme", "partners"), [(PLAIN, "plain", 60), (BIO, "bio", 6)])
def test_all_sequences_of_five_tags(tags, scheme, partners):
    true, generator = all_of(tags), torch.Generator().manual_seed(0)
    chunks = [chunks_of([tags[i] for i in row], scheme) for row in true.tolist()]
    assert len(set(map(frozenset, chunks))) > 80
    for _ in range(partners):
        order = torch.randperm(len(true), generator=generator)
        rows = metrics.ChunkF1(tags, scheme).statistics(scores(tags, true[order]), true)
        expected = [[len(a), len(chunks[j]), len(a & chunks[j])] for a, j in zip(chunks, order.tolist(), strict=True)]
        assert rows.tolist() == expected
    itself = metrics.ChunkF1(tags, scheme)
    itself.update(scores(tags, true), true)
    assert itself.compute() == 1


@pytest.mark.parametrize(("tags", "scheme"), [(PLAIN, "plain"), (BIO, "bio")])
def test_halves_add_up(tags, scheme):
    generator = torch.Generator().manual_seed(1)
    true = torch.randint(-1, len(tags), (20, 9), generator=generator)
    found = torch.randn(20, len(tags), 9, generator=generator)
    whole, one, other = (metrics.ChunkF1(tags, scheme) for _ in range(3))
    whole.update(found, true)
    one.update(found[:7], true[:7])
    other.update(found[7:], true[7:])
    one.merge(other)
    assert one.compute() == whole.compute() == pytest.approx(
        float(whole.values(torch.stack([whole.total, whole.total / 2]))[1])) and 0 < whole.compute() < 1


@pytest.mark.parametrize("gaps", [[1], [0, 3], [4], [2, 4]])
def test_places_without_label_part_nothing(gaps):
    closed = torch.tensor([[1, 2, 2, 2]])
    true, found = torch.full((1, 4 + len(gaps)), VOID), torch.zeros(1, 4 + len(gaps), dtype=torch.long)
    rest = [place for place in range(true.shape[1]) if place not in gaps]
    true[:, rest], found[:, rest] = closed, closed
    rows = metrics.ChunkF1(BIO, "bio").statistics(scores(BIO, found), true)
    assert rows.tolist() == [[1, 1, 1]]


def test_nothing_has_no_value():
    metric = metrics.ChunkF1(BIO, "bio")
    assert math.isnan(metric.compute())
    metric.update(scores(BIO, torch.zeros(2, 3, dtype=torch.long)), torch.tensor([[0, 0, 0], [VOID] * 3]))
    assert math.isnan(metric.compute())


def test_other_tags_are_another_measure():
    with pytest.raises(ValueError, match="same options"):
        metrics.ChunkF1(PLAIN).merge(metrics.ChunkF1(PLAIN[::-1]))


@pytest.mark.parametrize(("tags", "scheme", "said"), [
    (("A",), "plain", "two or more different"), (("A", "A"), "plain", "two or more different"),
    (("A", "B"), "seqeval", "'plain' or 'bio'"), (("O", "PER"), "bio", "'PER' is no tag of scheme 'bio'"),
    (("O", "B-"), "bio", "'B-' is no tag"), (("O", "E-PER"), "bio", "'E-PER' is no tag")])
def test_names_of_no_scheme(tags, scheme, said):
    with pytest.raises(ValueError, match=said):
        metrics.ChunkF1(tags, scheme)


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5), (2, 3, 4, 5)])
def test_predictions_of_another_shape(shape):
    with pytest.raises(ValueError, match=r"predictions \(batch, 3, places\)"):
        metrics.ChunkF1(PLAIN).update(torch.zeros(shape), torch.zeros(shape[:1] + shape[2:], dtype=torch.long))
