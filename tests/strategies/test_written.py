"""The one look at all gradients that a step has written."""

import functools

import pytest
import torch

from mtlcourse.strategies import written


@pytest.mark.parametrize("default", [torch.float32, torch.float64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_what_is_finite_is_told_whatever_the_default_dtype_is(monkeypatch, default, dtype):
    monkeypatch.setattr(written, "_one", functools.cache(written._one.__wrapped__))  # nothing kept from another dtype
    before = torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        for value, finite in ((1.0, True), (float("inf"), False), (float("nan"), False)):
            tensors = [torch.ones(3, dtype=dtype), torch.tensor([1.0, value], dtype=dtype)]
            assert written.all_finite(tensors) == finite
            assert torch.equal(tensors[0], torch.ones(3, dtype=dtype))
    finally:
        torch.set_default_dtype(before)
