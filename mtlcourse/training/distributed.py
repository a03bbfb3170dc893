"""Sums over processes. What needs one is handed `total`; there is no global state. Imports nothing of this package.

A share of a batch knows the counts of the whole, so losses and gradients of shares add up to the batch's. Every process
sums the same tensors in the same order, and then decides alike.
"""

import contextlib
import datetime
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

PATIENCE = datetime.timedelta(minutes=10)  # of one sum; a process that has died is noticed at once


class ProcessLost(ConnectionError):
    """Another process of this training is gone."""


@runtime_checkable
class Total(Protocol):
    """What sums over processes: rank and number of them, and the bytes that this one has sent."""

    rank: int
    size: int
    bytes: int

    def __call__(self, tensors: Sequence[Tensor]) -> None: ...
    def same(self, tensors: Sequence[Tensor]) -> None: ...


class Alone:
    """One process: every tensor is its own sum."""

    rank, size, bytes = 0, 1, 0

    def __call__(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""

    def same(self, tensors: Sequence[Tensor]) -> None:
        """Leave them as they are."""


ALONE = Alone()


class Processes:
    """The processes of a group that `torch.distributed` has initialised, such as those that `torchrun` starts.

    `total(tensors)` replaces tensors by their sums over the processes, `total.same(tensors)` by those of rank 0; one
    message a dtype.
    bytes: the size of what this process has given to sums and copies so far.
    Raises RuntimeError where no group is initialised; sums raise `ProcessLost` when a process is gone.
    """

    def __init__(self, group: Any = None):
        if not (dist.is_available() and dist.is_initialized()):
            raise RuntimeError("There is no group of processes: start with `torchrun --nproc-per-node 2 ...`, and call "
                               "torch.distributed.init_process_group('gloo') first ('nccl' on GPUs).")
        self.group, self.bytes = group, 0
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)

    def __call__(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums."""
        self._exchange(tensors, lambda flat: dist.all_reduce(flat, group=self.group))

    def same(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by those of rank 0; all processes wait here for it."""
        self._exchange(tensors, lambda flat: dist.broadcast(flat, group=self.group, group_src=0))

    @torch.no_grad()
    def _exchange(self, tensors: Sequence[Tensor], message: Any) -> None:
        for kind in dict.fromkeys(tensor.dtype for tensor in tensors):
            some = [tensor for tensor in tensors if tensor.dtype == kind]
            flat = torch.cat([tensor.reshape(-1) for tensor in some])
            if dist.get_backend(self.group) == "nccl":
                flat = flat.cuda()
            self.bytes += flat.numel() * flat.element_size()
            try:
                message(flat)
            except RuntimeError as error:
                raise ProcessLost(f"Process {self.rank} of {self.size} has lost another one ({error}). Start all again "
                                  "with the same command: a training goes on from its checkpoint.") from error
            for tensor, summed in zip(some, flat.split([tensor.numel() for tensor in some]), strict=True):
                tensor.copy_(summed.view_as(tensor))


def check_same(total: Total, **descriptions: str) -> None:
    """Raise ValueError in every process, naming what, unless all have the same descriptions."""
    mine = torch.tensor([int(hashlib.sha256(text.encode()).hexdigest()[:15], 16) for text in descriptions.values()])
    first = mine.clone()
    total.same([first])
    differing = (mine != first).long()
    total([differing])
    for what, count in zip(descriptions, differing.tolist(), strict=True):
        if count:
            raise ValueError(f"{count} of {total.size} processes have another {what} than the first. All must train "
                             "the same model, from the same weights and checkpoint, on the same data.")


@contextlib.contextmanager
def processes(device: str = "auto") -> Iterator[tuple[Total, str]]:
    """The processes that `torchrun` has started, or `Alone`, and this one's device; the group ends with the block.

    Raises ConnectionError where they cannot meet.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Alone(), device
        return
    if device in ("auto", "cuda"):
        device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.set_device(device)
    try:
        dist.init_process_group("nccl" if on_gpu else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:  # torch's own for ports and addresses are RuntimeErrors
        where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
        raise ConnectionError(f"The processes cannot meet at {where} ({error}). Is the port taken, or closed? With "
                              "torchrun --standalone it finds a free one itself.") from error
    try:
        yield Processes(), device
    finally:
        dist.destroy_process_group()
