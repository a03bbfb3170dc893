"""Checks of notebook 24, a robot and a language. Imports `exercises`."""

from collections.abc import Callable

from . import NotYet, exercise, expect


@exercise("24.1",
          "Which tasks have a loss so small that the sum hardly sees it? Their weights must be large.",
          "Take 1 / alone, and multiply all by one number so that the weights sum to the number of tasks.")
def even_weights(answer: Callable) -> None:
    """Weights that make w_t times the error alone equal for all tasks, with sum m."""
    for errors in ({"reach": 0.001, "push": 0.05, "peg": 0.1}, {"one": 2.0, "other": 0.5}):
        inverse = {task: 1 / error for task, error in errors.items()}
        weights = answer(dict(errors))
        if not isinstance(weights, dict) or weights.keys() != errors.keys():
            raise NotYet(f"for {errors}: expected a dictionary with a weight for each task, got {weights!r}")
        expect([len(errors) * value / sum(inverse.values()) for value in inverse.values()],
               [weights[task] for task in errors], f"for {errors}")


@exercise("24.2",
          "Split every tag at its first dash. When does a place begin a chunk, and when does it only go on?",
          "A place goes on if its mark is I and the place before it has the same kind. O is in no chunk.")
def chunks_of_names(answer: Callable) -> None:
    """Chunks of tags O, B-KIND and I-KIND."""
    for tags, chunks in (
            (["B-PER", "B-PER"], {(0, 0, "PER"), (1, 1, "PER")}),
            (["B-PER", "I-PER", "O"], {(0, 1, "PER")}),
            (["O", "O"], set()),
            (["I-LOC", "I-LOC", "I-PER"], {(0, 1, "LOC"), (2, 2, "PER")}),
            (["B-LOC", "O", "I-LOC", "B-LOC"], {(0, 0, "LOC"), (2, 2, "LOC"), (3, 3, "LOC")})):
        got = answer(tags)
        try:
            found = {(int(first), int(last), str(kind)) for first, last, kind in got}
        except (TypeError, ValueError):
            raise NotYet(f"for {tags}: expected a set of (first, last, kind), got {got!r}") from None
        if found != chunks:
            raise NotYet(f"for {tags}: expected {sorted(chunks)}, got {sorted(found)}")
