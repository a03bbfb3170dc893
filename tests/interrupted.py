"""A training that is cut off once, in an update of one kind of model."""

import pytest


def cut_off(kind: type, monkeypatch: pytest.MonkeyPatch, at: int = 8) -> list:
    """Update number `at` of models of this kind ends in KeyboardInterrupt; the list has an entry for each update."""
    calls: list[int] = []
    after_step = getattr(kind, "after_step", lambda model, step: None)

    def pull_the_plug(model, *arguments):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return after_step(model, *arguments)

    monkeypatch.setattr(kind, "after_step", pull_the_plug, raising=False)
    return calls
