"""The cells behind the backbone, and how they may be connected: what an alignment search chooses from.

Imports `files`.
"""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ...files import is_whole, unknown

SIZES = ("same", "half")  # of a cell's fully connected layer, against the cell's input
SKIPS = ("input", "linear", "norm")  # where its skip connection starts: cell input, fully connected layer, batch norm
BACKBONE = "backbone"
Configuration = dict[str, str]  # an option for each choice, plain data


def cell(number: int) -> str:
    """The name of a cell, as options have it.

    >>> cell(0)
    'cell_0'
    """
    return f"cell_{number}"


@dataclass(frozen=True)
class AlignmentSpace:
    """Which cells there can be, what each takes, and which outputs are aligned and classified.

    Choices, in the order in which a controller makes them:
    "input_k": where cell k >= 1 takes its input from: of the two outputs before it, the backbone's counting as one.
    "size_k": its fully connected layer is as wide as its input ("same") or half as wide ("half").
    "skip_k": its skip connection starts at the cell's "input", behind the fully connected layer ("linear"), or behind
        the batch norm ("norm"). It ends at the cell's output.
    "align": the cell whose output the distance between the domains is measured on.
    "classify": the cell whose output the classifier takes.
    So there are `(2 * 3)^N * 2^(N - 1) * N^2` configurations.

    cells: their number N.
    tied: what is aligned is what is classified: no choice "align", and a factor N less. Not in the source: with two
        choices a configuration can have its distance measured where the classifier does not pass.
    Raises ValueError for a number of cells below one, and for tied that is no truth value.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, section 4.3.1. The order of the choices is
    numbered in its figure 4.2 alone; here it is cell by cell, in the order of the text.

    >>> len(AlignmentSpace()), len(AlignmentSpace(tied=True)), len(AlignmentSpace(cells=1))
    (7776, 2592, 6)
    """

    cells: Any = 3
    tied: Any = False

    def __post_init__(self) -> None:
        if not is_whole(self.cells, 1):
            raise ValueError(f"cells={self.cells!r} is no number of cells; give a whole number from 1 upwards.")
        if not isinstance(self.tied, bool):
            raise ValueError(f"tied={self.tied!r} is neither True nor False.")

    @property
    def choices(self) -> dict[str, tuple[str, ...]]:
        """`{choice: its options}`, in order."""
        outputs = tuple(cell(k) for k in range(self.cells))
        found: dict[str, tuple[str, ...]] = {}
        for k in range(self.cells):
            if k:
                found[f"input_{k}"] = (BACKBONE, *outputs)[k - 1 : k + 1]
            found |= {f"size_{k}": SIZES, f"skip_{k}": SKIPS}
        if not self.tied:
            found["align"] = outputs
        return found | {"classify": outputs}

    def __len__(self) -> int:
        return math.prod(len(options) for options in self.choices.values())

    def __iter__(self) -> Iterator[Configuration]:
        """All configurations, the last choice changing fastest."""
        for options in itertools.product(*self.choices.values()):
            yield dict(zip(self.choices, options, strict=True))

    def __getitem__(self, number: int) -> Configuration:
        """Configuration `number` of the enumeration, from 0.

        Raises IndexError for a number that is none.
        """
        if not is_whole(number) or not 0 <= number < len(self):
            raise IndexError(f"There is no configuration {number!r}: the space has {len(self)}, numbered from 0.")
        picks = []
        for options in reversed(self.choices.values()):
            number, pick = divmod(number, len(options))
            picks.append(pick)
        return self.named(picks[::-1])

    def number(self, configuration: Mapping[str, str]) -> int:
        """The place of a configuration in the enumeration."""
        number = 0
        for pick, options in zip(self.picks(configuration), self.choices.values(), strict=True):
            number = number * len(options) + pick
        return number

    def named(self, picks: Any) -> Configuration:
        """The configuration in which choice i takes its option number `picks[i]`."""
        return {choice: options[int(pick)] for (choice, options), pick in zip(self.choices.items(), picks, strict=True)}

    def picks(self, configuration: Mapping[str, str]) -> list[int]:
        """The number of the option of each choice, in order; raises what `check` raises."""
        self.check(configuration)
        return [options.index(configuration[choice]) for choice, options in self.choices.items()]

    def check(self, configuration: Any) -> Configuration:
        """`configuration`, or if it is a number the one with that number, in the order of the choices.

        Raises ValueError for a number that is none, for choices that are not there or lacking, and for unknown options,
        naming the known ones.
        """
        if is_whole(configuration) and 0 <= configuration < len(self):
            return self[configuration]
        if not isinstance(configuration, Mapping):
            raise ValueError(f"configuration={configuration!r} is neither a number from 0 to {len(self) - 1} nor a "
                             f"table of choices: {', '.join(self.choices)}.")
        for choice in configuration:
            if choice not in self.choices:
                raise ValueError(unknown("choice", str(choice), self.choices))
        lacking = [choice for choice in self.choices if choice not in configuration]
        if lacking:
            raise ValueError(f"The configuration says nothing of {', '.join(lacking)}. Each choice needs an option, "
                             f"as in {self[0]}.")
        for choice, options in self.choices.items():
            if configuration[choice] not in options:
                raise ValueError(unknown(f"option of {choice}", str(configuration[choice]), options))
        return {choice: configuration[choice] for choice in self.choices}

    # --- what a configuration means ---

    def aligned(self, configuration: Mapping[str, str]) -> int:
        """The number of the cell whose output is aligned."""
        return int(configuration["classify" if self.tied else "align"].removeprefix("cell_"))

    def classified(self, configuration: Mapping[str, str]) -> int:
        """The number of the cell whose output is classified."""
        return int(configuration["classify"].removeprefix("cell_"))

    def source(self, configuration: Mapping[str, str], k: int) -> str:
        """Whose output cell k takes: "backbone", or the name of a cell."""
        return configuration[f"input_{k}"] if k else BACKBONE

    def path(self, configuration: Mapping[str, str], last: int) -> list[int]:
        """The cells that data pass on the way from the backbone to the output of cell `last`, in order.

        >>> space = AlignmentSpace(2)
        >>> space.path(space[0], 1), space.path(space[0] | {"input_1": "cell_0"}, 1)
        ([1], [0, 1])
        """
        passed = [last]
        while (before := self.source(configuration, passed[0])) != BACKBONE:
            passed.insert(0, int(before.removeprefix("cell_")))
        return passed

    def beside(self, configuration: Mapping[str, str]) -> bool:
        """Whether the aligned output is not on the classifier's way.

        The distance can then fall in cells that the classifier never looks at.
        """
        return self.aligned(configuration) not in self.path(configuration, self.classified(configuration))
