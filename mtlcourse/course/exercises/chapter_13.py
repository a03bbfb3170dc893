"""Checks of notebook 13, deep safe multi-task learning. Imports `exercises`."""

import math
from collections.abc import Callable

import torch
from torch import nn

from . import NotYet, exercise, expect


@exercise("13.1",
          "The mixture is alpha public + (1 - alpha) private. What is its derivative by alpha?",
          "Multiply g with public minus private, sum over all, take the step, and bring the gate back between 0 and "
          "1.")
def gate_step(answer: Callable) -> None:
    """alpha - lr <g, public - private>, then the nearest point of [0, 1]."""
    g, public, private = _features([[1.0, -2.0], [0.5, 0.0]], [[1.0, 0.0], [2.0, 2.0]], [[0.0, 1.0], [0.0, 1.0]])
    for alpha, lr, expected in ((0.5, 0.05, 0.3), (0.5, 0.2, 0.0), (0.7, -0.1, 1.0)):
        expect(expected, answer(alpha, g, public, private, lr), f"for alpha={alpha}, lr={lr}, <g, f_S - f_t>=4")


@exercise("13.2",
          "Think of the comparison that must be true for a gate to stay open; close in every other case.",
          "With NaN every comparison is false: close where 'together is at most alone' is not true.")
def to_close(answer: Callable) -> None:
    """Those whose loss is not known to be at most the one alone."""
    cases = [({"left": 0.3, "right": 0.5}, {"left": 0.3, "right": 0.4}, ["right"]),
             ({"left": math.nan, "right": 0.1}, {"left": 0.3, "right": 0.4}, ["left"]),
             ({"left": 0.2, "right": 0.1}, {"left": 0.3, "right": 0.4}, [])]
    for together, alone, expected in cases:
        got = answer(together, alone)
        if list(got) != expected:
            raise NotYet(f"for together={together} and alone={alone}: expected {expected}, got {got}")


@exercise("13.3",
          "Decoders are model.heads. Two things are needed: wake them, and hand their parameters over.",
          "Call requires_grad_(True) on model.heads first; then add the parameters of model.heads to the list.")
def second(answer: Callable) -> None:
    """Public encoder, gates and decoders learn, and nothing else; the decoders are woken for it."""
    model = nn.Module()
    parts = {"public": nn.Linear(2, 2), "private": nn.Linear(2, 2), "heads": nn.Linear(2, 1),
             "alpha": nn.ParameterDict({"left": torch.tensor(0.5)})}
    for name, part in parts.items():
        setattr(model, name, part.requires_grad_(name in ("public", "alpha")))
    given = {id(parameter) for parameter in answer(model)}
    for name, learns in (("public", True), ("alpha", True), ("heads", True), ("private", False)):
        found = {id(parameter) in given for parameter in parts[name].parameters()}
        if found != {learns}:
            raise NotYet(f"for a model after stage 1: expected {'all' if learns else 'none'} of the parameters of "
                         f"{name}, got {'some' if True in found else 'none'}")
        if learns and not all(parameter.requires_grad for parameter in parts[name].parameters()):
            raise NotYet(f"for a model after stage 1: expected gradients for {name}, got none: it is frozen still, "
                         "and requires_grad_(True) unfreezes it")


def _features(*rows: list[list[float]]) -> list[torch.Tensor]:
    return [torch.tensor(row, dtype=torch.float64) for row in rows]
