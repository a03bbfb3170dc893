"""Statements of the papers as objects: what is assumed and claimed, our verdict, and a search for counter-examples.

Imports `files`. The files beside this one, one a document, `state` what their paper says; `STATEMENTS` holds all of
it by id, and `check` tries a statement on random instances.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from ..files import unknown

Verdict = Literal["holds", "misprint", "missing assumption", "false", "gap in the proof", "cannot be checked"]
VERDICTS: tuple[str, ...] = get_args(Verdict)
Instance = dict[str, Any]  # {name: number or array}: whatever a statement is about

TOLERANCE = 1e-9  # an excess below this is rounding
KEPT = 0.1  # of the excess that was found must be left in the shrunk instance
DECIMALS = (0, 1, 2, 3)  # tried in turn when numbers are made readable


@dataclass(frozen=True)
class Form:
    """One reading of a statement that a computer can try: "printed", "repaired", or another by name.

    draw: an instance, from a random generator. Where instances that meet the assumptions are rare, it makes such.
    excess: by how much an instance violates the claim, in the units of the claim or relative to its size; 0 or less
        where the claim holds, NaN where the instance does not meet the assumptions, which is no violation.
    allowed: the share of instances that may violate it: delta where a claim holds with probability 1 - delta.
    smaller: simpler instances that are worth a try, such as one with a task less; numbers are rounded anyhow.
    """

    draw: Callable[[np.random.Generator], Instance]
    excess: Callable[..., float]
    allowed: float = 0.0
    smaller: Callable[[Instance], Iterator[Instance]] | None = None


@dataclass(frozen=True)
class CounterExample:
    """An instance that refutes a statement, in numbers without rounding.

    values: integers, `fractions.Fraction`s, or lists of them.
    excess: by how much they violate the claim, from these numbers in exact arithmetic, or with `decimal` where roots
        and exponentials enter; larger than 0.
    """

    values: Mapping[str, Any]
    excess: Callable[..., Any]

    def refutes(self) -> bool:
        """True if the claim is violated; a counter-example for which it is not is an error of ours."""
        return self.excess(**self.values) > 0


@dataclass(frozen=True)
class Statement:
    """What a paper says, and what became of it.

    id: "mamg-lemma-1": the method, the kind, the number.
    document, place: the paper's title, and where in it: "lemma 1".
    lesson: the number of the notebook that works through it.
    assumptions, claim: in our words, formulas in Markdown.
    verdict: one of
        "holds": proved, by the paper or by us, and no instance violated it.
        "misprint": a symbol is wrong, and the text around it says what is meant.
        "missing assumption": false as it stands, and true with an assumption that is not there.
        "false": refuted as it is meant; what repairs it is another claim, or another rule.
        "gap in the proof": a step of the proof fails, and the claim is neither proved nor refuted by that.
        "cannot be checked": something in it is not defined.
    because: why, in a sentence or two.
    counter_example: for what is false, misses an assumption or is misprinted, where one exists.
    repair: the smallest change that makes it true; "" where it needs none or none is known.
    networks: those of the assumptions that networks as they are trained here break.
    forms: `{name: Form}`; empty where nothing can be computed.
    """

    id: str
    document: str
    place: str
    lesson: str
    assumptions: tuple[str, ...]
    claim: str
    verdict: Verdict
    because: str
    counter_example: CounterExample | None = None
    repair: str = ""
    networks: tuple[str, ...] = ()
    forms: Mapping[str, Form] = field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """What `check` found.

    instances: how many met the assumptions.  violations: how many of them violate the claim.
    allowed: the share that may.
    excess: of the worst, as it was found; NaN without a violation.
    worst: the worst instance, shrunk until it can be read; None without a violation. Where some share may violate
        the claim it is as it was found, for one instance proves nothing there.
    """

    instances: int
    violations: int
    allowed: float
    excess: float
    worst: Instance | None

    @property
    def share(self) -> float:
        return self.violations / self.instances if self.instances else np.nan

    @property
    def holds(self) -> bool:
        """No more violations than allowed, and any instance at all."""
        return self.instances > 0 and self.share <= self.allowed


STATEMENTS: dict[str, Statement] = {}


def state(statement: Statement) -> Statement:
    """Add a statement to `STATEMENTS`. Raises ValueError for an id that is taken, or a verdict that is none."""
    if statement.id in STATEMENTS:
        raise ValueError(f"There is a statement {statement.id!r} already; ids are used once.")
    if statement.verdict not in VERDICTS:
        raise ValueError(unknown("verdict", statement.verdict, VERDICTS))
    STATEMENTS[statement.id] = statement
    return statement


def check(id: str, form: str = "printed", instances: int = 1000, seed: int = 0) -> Checked:
    """Try a statement on random instances, and make the worst violation readable.

    form: one of the statement's forms.
    seed: of the instances; the same seed gives the same instances everywhere.
    Raises ValueError for an unknown statement or form, for a statement without forms, and for instances < 1.
    """
    if id not in STATEMENTS:
        raise ValueError(unknown("statement", id, STATEMENTS))
    forms = STATEMENTS[id].forms
    if not forms:
        raise ValueError(f"Nothing of {id!r} can be computed: {STATEMENTS[id].because}")
    if form not in forms:
        raise ValueError(unknown("form", form, forms))
    if instances < 1:
        raise ValueError(f"instances is {instances}; it must be at least 1.")
    return _search(forms[form], instances, np.random.default_rng(seed))


def _search(form: Form, instances: int, random: np.random.Generator) -> Checked:
    drawn = [form.draw(random) for _ in range(instances)]
    excess = np.array([form.excess(**instance) for instance in drawn], dtype=float)
    met = ~np.isnan(excess)
    violations = int((excess[met] > TOLERANCE).sum())
    if not violations:
        return Checked(int(met.sum()), 0, form.allowed, np.nan, None)
    first = int(np.nanargmax(excess))
    worst = drawn[first] if form.allowed else shrunk(drawn[first], form)
    return Checked(int(met.sum()), violations, form.allowed, float(excess[first]), worst)


def shrunk(instance: Instance, form: Form) -> Instance:
    """A simpler instance that still violates the claim, by a tenth of the amount at least.

    First the form's own proposals as long as one does, then whole arrays and single numbers with fewer digits and
    zeros. Counts, that is integers, stay as they are: only the form knows what hangs on them.
    """
    enough = max(TOLERANCE, KEPT * form.excess(**instance))

    def violates(candidate: Instance) -> bool:
        return form.excess(**candidate) > enough  # False for NaN

    while form.smaller is not None:
        better = next((candidate for candidate in form.smaller(instance) if violates(candidate)), None)
        if better is None:
            break
        instance = better
    for name in instance:
        instance = next(filter(violates, _rounded(instance, name)), instance)
    for name in instance:
        for place in range(np.size(instance[name])):
            instance = next(filter(violates, _rounded(instance, name, place)), instance)
    return instance


def _rounded(instance: Instance, name: str, place: int | None = None) -> Iterator[Instance]:
    """The instance with `name`, or one number of it, rounded: to zero, to a whole number, to ever more digits."""
    value = instance[name]
    if not (isinstance(value, float) or (isinstance(value, np.ndarray) and value.dtype.kind == "f")):
        return
    for decimals in (None, *DECIMALS):
        new = np.array(value, dtype=float)
        at = slice(None) if place is None else place
        flat = new.reshape(-1)
        flat[at] = 0.0 if decimals is None else np.round(flat[at], decimals) + 0.0
        yield {**instance, name: float(new) if isinstance(value, float) else new}


def table() -> pd.DataFrame:
    """The verdicts: one row a statement, with document, place, claim, verdict, because, repair and lesson."""
    columns = ["document", "place", "claim", "verdict", "because", "repair", "lesson"]
    return pd.DataFrame([[getattr(one, name) for name in columns] for one in STATEMENTS.values()],
                        index=pd.Index(list(STATEMENTS), name="id"), columns=columns)
