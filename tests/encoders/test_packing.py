"""Several tensors a sample in one: what goes in comes out, end to end."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlcourse import data, models, training
from mtlcourse.data import DatasetSplit
from mtlcourse.encoders import Packing, StagedEncoder, from_module
from mtlcourse.tasks import Problem, TensorSplit
from tests.encoders.own import Text

LENGTH = 6
TEXT = Packing(ids=((LENGTH,), torch.long), mask=((LENGTH,), torch.bool))
DTYPES = st.sampled_from([torch.float32, torch.long, torch.bool])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(1, 3), max_size=3), DTYPES), min_size=1, max_size=4), st.integers(0, 3))
def test_what_is_packed_is_unpacked(parts, samples):
    packing = Packing(**{f"part{number}": (tuple(shape), dtype) for number, (shape, dtype) in enumerate(parts)})
    tensors = {name: (torch.randn(samples, *shape) * 1000).to(dtype) for name, (shape, dtype) in packing.parts.items()}
    x = packing.pack(**tensors)
    assert x.shape == (samples, *packing.shape) and x.dtype == packing.dtype
    for name, found in packing.unpack(x).items():
        assert found.dtype == tensors[name].dtype and torch.equal(found, tensors[name])
    if samples:
        one = packing.pack(**{name: tensor[0] for name, tensor in tensors.items()})
        assert torch.equal(one, x[0])


def test_whole_numbers_stay_whole():
    assert TEXT.dtype == torch.long and TEXT.shape == (2 * LENGTH,)
    large = torch.tensor([[2**40 + 1]])
    whole = Packing(ids=((1,), torch.long))
    assert torch.equal(whole.unpack(whole.pack(ids=large))["ids"], large)
    mixed = Packing(image=(1, 2, 2), ids=((1,), torch.long))
    assert mixed.dtype == torch.float32
    edge = torch.tensor([[2**24]])
    assert mixed.unpack(mixed.pack(image=torch.rand(1, 1, 2, 2), ids=edge))["ids"] == edge
    with pytest.raises(ValueError, match="'ids' has whole numbers above 16,777,216, which float32 does not keep"):
        mixed.pack(image=torch.rand(1, 1, 2, 2), ids=edge + 1)


@pytest.mark.parametrize(("make", "message"), [
    (lambda: Packing(), "There is nothing to pack"), (lambda: Packing(a=(0,)), r"a=\(0,\) is no shape"),
    (lambda: Packing(a=(2.0, 3)), r"a=\(2.0, 3\) is no shape"),
    (lambda: TEXT.pack(ids=torch.zeros(1, 6)), "Part 'mask' is missing; a sample has ids, mask"),
    (lambda: TEXT.pack(ids=torch.zeros(1, 6), msk=1), "Unknown part 'msk'. Known: mask|Part 'mask' is missing"),
    (lambda: TEXT.pack(ids=torch.zeros(1, 5).long(), mask=torch.ones(1, 6)), r"shape \(1, 5\), and one sample"),
    (lambda: TEXT.pack(ids=torch.zeros(1, 6), mask=torch.ones(1, 6)), "'ids' is torch.float32, and torch.int64 was"),
    (lambda: TEXT.pack(ids=torch.zeros(1, 6).long(), mask=torch.ones(2, 6).bool()), "different numbers of samples"),
    (lambda: TEXT.unpack(torch.zeros(3, 5).long()), r"shape \(5,\) are not packed like this; expected \(12,\)")])
def test_what_cannot_be_packed(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- end to end: token ids and a mask --------------------------------------------------------------------

def texts(samples: int, seed: int) -> list[tuple]:
    """Texts of different lengths: which word is last, and how many there are."""
    generator = torch.Generator().manual_seed(seed)
    found = []
    for _ in range(samples):
        length = int(torch.randint(1, LENGTH + 1, (), generator=generator))
        ids = torch.zeros(LENGTH, dtype=torch.long)
        ids[:length] = torch.randint(1, 11, (length,), generator=generator)
        found.append((ids, torch.arange(LENGTH) < length, int(ids[length - 1] > 5), float(length)))
    return found


def sample(item):
    ids, mask, last, length = item
    return TEXT.pack(ids=ids, mask=mask), {"last": last, "length": [length]}


def encoder() -> list[nn.Module]:
    torch.manual_seed(0)
    return [TEXT.stage(Text()), nn.Sequential(nn.Linear(8, 8), nn.ReLU())]


def problem(kind: str) -> Problem:
    tasks = [data.classification("last", 2), data.regression("length")]
    splits = [DatasetSplit(texts(samples, seed), tasks, sample) for seed, samples in enumerate((64, 32, 32))]
    if kind == "tensors":
        splits = [TensorSplit(whole.inputs, whole.targets) for whole in
                  (next(split.batches(64)) for split in splits)]
    return Problem("texts", tasks, *splits, TEXT.shape, encoder(), input_dtype=TEXT.dtype)


@pytest.mark.parametrize("kind", ["datasets", "tensors"])
@pytest.mark.parametrize("model", [models.HPS, models.STL, models.DSMTL])
def test_token_ids_and_a_mask_are_learned_from(model, kind):
    own = problem(kind)
    made = model(own)
    before = training.train_losses(made, own)
    run = training.fit(own, made, "pcgrad", epochs=8, batch_size=16, lr=1e-2, device="cpu", progress=False)
    after = training.train_losses(run.model, own)
    assert after["length"] < 0.7 * before["length"]


def test_what_is_masked_does_not_count():
    model = models.HPS(problem("tensors")).eval()
    (ids, mask, *_), other = texts(1, 4)[0], torch.arange(LENGTH) + 3
    assert not mask.all()
    one = TEXT.pack(ids=ids[None], mask=mask[None])
    two = TEXT.pack(ids=torch.where(mask, ids, other)[None], mask=mask[None])
    a, b = model(one), model(two)
    assert not torch.equal(one, two) and all(torch.equal(a[name], b[name]) for name in a)


def test_a_packed_model_is_cut_where_the_mask_is_no_longer_needed():
    whole = nn.Sequential(TEXT.stage(Text()), nn.Linear(8, 8), nn.ReLU())
    kept = copy.deepcopy(whole).eval()
    made = StagedEncoder(from_module(whole, ["0", "2"], TEXT.shape, TEXT.dtype), TEXT.shape, dtype=TEXT.dtype).eval()
    x = TEXT.pack(ids=torch.randint(1, 11, (3, LENGTH)), mask=torch.ones(3, LENGTH).bool())
    assert torch.equal(made(x), kept(x))
    with pytest.raises(ValueError, match="is needed behind cut '0.module.words' as well"):
        from_module(whole, ["0.module.words", "2"], TEXT.shape, TEXT.dtype)
