"""How names with options are written: `part ("+" part)*`, a part `id` or `id(key=value, ...)`.

Imports nothing of this package. Methods, problems, budgets and strategies are named so; what may stand in a name is
theirs to say.
"""

import ast
import itertools
import re
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Part:
    """One part of a name: an id and its options. `str(part)` is its canonical spelling.

    >>> str(parse_part("bmtl( T = 5 )"))
    'bmtl(T=5)'
    """

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={value!r}" for key, value in sorted(self.options.items()))
        return f"{self.name}({options})" if options else self.name


def parse_part(text: str) -> Part:
    """Read `id` or `id(key=value, ...)`; values are Python literals, and bare words are strings.

    Raises ValueError, showing the form, for anything else.

    >>> parse_part("stl(epochs=2, select=best-val)").options
    {'epochs': 2, 'select': 'best-val'}
    """
    match = re.fullmatch(r"\s*([\w.:\-]+)\s*(?:\((.*)\))?\s*", text, re.DOTALL)
    if not match:
        raise ValueError(f"Cannot read {text!r}. A part is a name, or a name with options such as "
                         "'dsmtl-jl(gate=sigmoid)'.")
    name, arguments = match.groups()
    if not arguments or not arguments.strip():
        return Part(name)
    try:
        call = ast.parse(f"f({arguments})", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError("the parentheses do not match")
        keys = [keyword.arg for keyword in call.keywords]
        if call.args or None in keys or len(set(keys)) < len(keys):
            raise ValueError("each option needs a name, and only one value")
        return Part(name, {keyword.arg: _literal(keyword.value) for keyword in call.keywords})
    except (SyntaxError, ValueError) as error:
        raise ValueError(f"Cannot read the options of {text!r} ({error}). "
                         "Write them as 'name(key=value, key=value)'.") from error


def _literal(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Tuple):
        return tuple(_literal(item) for item in node.elts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):  # bare words may have hyphens: best-val
        words = _literal(node.left), _literal(node.right)
        if all(isinstance(word, str) for word in words):
            return "-".join(words)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ValueError(f"{ast.unparse(node)} is no number, text, list or the like") from None


def parse_parts(name: str) -> list[Part]:
    """Read `part ("+" part)*`. Raises ValueError, showing all of `name`, for anything else.

    >>> [str(part) for part in parse_parts("hps + bmtl(T=5)")]
    ['hps', 'bmtl(T=5)']
    """
    texts = split(name)
    if len(texts) == 1:
        return [parse_part(name)]
    if not all(text.strip() for text in texts):
        raise ValueError(f"Cannot read {name!r}: on each side of a '+' stands a part, as in 'hps+pcgrad'.")
    try:
        return [parse_part(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"{error} It stands in {name!r}.") from error


def split(name: str) -> list[str]:
    """`name` cut at each "+" that stands outside parentheses and quotation marks."""
    depth, ends = 0, [-1]
    for match in re.finditer(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[()+]""", name):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if match.group() == "+" and depth == 0:
            ends.append(match.start())
    return [name[end + 1 : following] for end, following in itertools.pairwise([*ends, len(name)])]
