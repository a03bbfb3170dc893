"""What holds for every test: one thread, no windows, no clock in the judgement of random examples."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is loaded

import matplotlib  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402

from mtlcourse import data, methods, strategies  # noqa: E402

matplotlib.use("agg")  # and not MPLBACKEND, which the kernels of notebooks would inherit and draw nothing

settings.register_profile("mtlcourse", deadline=None, derandomize=True)
settings.load_profile("mtlcourse")


@pytest.fixture(autouse=True)
def registries(monkeypatch):
    """Whatever a test registers, and a solution that it runs, is forgotten after it."""
    for module, name in ((data.registry, "_PROBLEMS"), (data.registry, "_DOMAINS"), (methods, "_METHODS"),
                         (strategies.base, "_REGISTRY")):
        monkeypatch.setattr(module, name, dict(getattr(module, name)))
