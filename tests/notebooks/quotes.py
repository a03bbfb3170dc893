"""Numbers that the prose of a lesson quotes, and where they come from. `unfounded(path, allowed)` says which do not.

A quoted number is founded if some output of the lesson prints it, or its code has it as a literal, within the
precision it is quoted with: .26 quotes .2597, and 12 % quotes .12 or 12.0. A loss quoted as 2.3 may be printed as -2.3.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtlcourse.course import lessons, outputs
from mtlcourse.course.tokens import Number, split

# What is no quotation, each by a rule of its own. A formula's whole numbers belong to it; those with a point count.
_LIST = r"\d[\d.]*\w?(?:(?:,| and| or| to|-|–|,? \()+ ?\d[\d.]*\)?)*"
_NO_QUOTATION = {
    "code": r"```.*?```|`[^`\n]*`",
    "the target of a link": r"(?<=\])\([^)\s]*\)",
    "markup": r"<[^>\n]*>",
    "a heading": r"^#+ .*$",
    "how long it takes": r"^\*\*Time.*$",
    "the number of an item": r"^ *\d+\. ",
    "a place in a text": r"(?i)\b(?:sections?|equations?|eqs?\.|tables?|figures?|theorems?|lemmas?|propositions?|"
                         r"corollar(?:y|ies)|definitions?|algorithms?|problems?|appendix|chapters?|pages?|assumptions?|"
                         rf"lessons?|notebooks?|exercises?)\s+{_LIST}",
    "a year": r"\b(?:19|20)\d\d\b(?![.,%]\d)",
}
_FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
# The last column of a table says in which lesson a thing is explained.
_TABLE = re.compile(r"^\|.*\| (?:notebook|lesson) \|\n(?:\|.*(?:\n|\Z))*", re.MULTILINE)
_NOT_READ = re.compile(r"^## (?:Exercises|References)\b.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
_PERCENT = re.compile(r"%|\bper ?cent|\bpoints?\b")


@dataclass(frozen=True)
class Quote:
    """A number in prose, with the sentence it stands in."""

    number: Number
    sentence: str

    def means(self, value: float) -> bool:
        """True if the number could be `value`, rounded; in a sentence about percent also a hundred times `value`."""
        number = self.number.value
        unit = self.number.unit or 1.0
        sizes = [1.0]
        if self.number.text.endswith("%"):
            sizes += [0.01]
        elif _PERCENT.search(self.sentence):
            sizes += [100.0]
        signless = self.number.text[0] not in "+-−"
        seen = [value * size for size in sizes]
        seen += [abs(one) for one in seen] if signless else []
        return any(abs(number - one) <= unit / 2 * (1 + 1e-6) for one in seen)


def quoted(prose: str) -> list[Quote]:
    """The numbers that `prose`, Markdown, quotes, in order."""
    text = _NOT_READ.sub("", prose)
    text = _TABLE.sub(lambda table: re.sub(r"[^|\n]*\|$", "", table[0], flags=re.MULTILINE), text)
    for rule in _NO_QUOTATION.values():
        text = re.sub(rule, " ", text, flags=re.MULTILINE | re.DOTALL if rule.startswith("```") else re.MULTILINE)
    text = _FORMULA.sub(lambda formula: " " + " ".join(re.findall(r"(?<![\w.])-?\d*\.\d+", formula[0])) + " ", text)
    sentences = re.split(r"(?<=[.?!;:])\s+|\n{2,}|\n(?=[-*|] ?)", text)
    return [Quote(replace(token, text=token.text.rstrip(".")), " ".join(sentence.split()))
            for sentence in sentences for token in split(sentence) if isinstance(token, Number)]


def sources(notebook: dict[str, Any]) -> list[float]:
    """Every number that the lesson prints or has in its code."""
    texts = [text for cell in lessons.code_cells(notebook)
             for text in (cell["source"], *outputs.texts(cell, str).values())]
    return sorted({token.value for text in texts for token in split(text) if isinstance(token, Number)})


def unfounded(path: Path, allowed: dict[str, str]) -> list[str]:
    """The quotations of the lesson at `path` that no output has, a sentence each.

    allowed: by the number as it is quoted the reason why it needs none.
    """
    notebook = lessons.load(path)
    known = sources(notebook)
    return [f"quotes {quote.number.text}, which no cell prints: {quote.sentence}" for quote in quotes(notebook)
            if quote.number.text not in allowed and not any(map(quote.means, known))]


def quotes(notebook: dict[str, Any]) -> Iterator[Quote]:
    prose = "\n\n".join(cell["source"] for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    yield from quoted(prose)
