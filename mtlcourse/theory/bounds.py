"""What every bound of the papers is: a number, and the terms that it is the sum of. Imports nothing of the house."""

from collections.abc import Mapping


class Bound(float):
    """A bound as a number that knows its terms.

    terms: `{name: value}` in the order of the formula; the number is their sum.

    >>> bound = Bound({"gaussian": 0.25, "confidence": 0.5})
    >>> bound < 1, bound + 0, bound.terms["confidence"]
    (True, 0.75, 0.5)
    """

    terms: dict[str, float]

    def __new__(cls, terms: Mapping[str, float]) -> "Bound":
        bound = super().__new__(cls, sum(terms.values()))
        bound.terms = dict(terms)
        return bound

    def __repr__(self) -> str:
        return f"{float(self):.4g} ({', '.join(f'{name} {value:.4g}' for name, value in self.terms.items())})"

    def __reduce__(self) -> tuple:
        return Bound, (self.terms,)
