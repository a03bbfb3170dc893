"""A Sphinx extension: formulas as MathML, which browsers draw themselves, without a script and without a network.

Imports the extra `book` where it is used. A formula that cannot be translated stops the build, and names the page.
"""

import re
from typing import Any

UNKNOWN = {r"\\arg(?![a-zA-Z])": r"\\operatorname{arg}", r"\\[lr]vert(?![a-zA-Z])": "|"}  # to the converter


def mathml(latex: str, display: bool = False) -> str:
    """A formula as a `<math>` element, which says its LaTeX to who copies it.

    Raises ValueError for one that cannot be translated whole.

    >>> mathml("w_t").partition(">")[2]
    '<mrow><msub><mi>w</mi><mi>t</mi></msub></mrow></math>'
    """
    from latex2mathml.converter import convert

    for name, known in UNKNOWN.items():
        latex = re.sub(name, known, latex)
    try:
        element = convert(latex, display="block" if display else "inline")
    except Exception as error:  # the converter has an exception for each kind of fault, and no common one
        raise ValueError(f"The formula {latex!r} cannot be translated: {type(error).__name__} {error}.") from error
    if left := re.search(r"\\[a-zA-Z]+", element):
        raise ValueError(f"The formula {latex!r} cannot be translated: {left[0]} is not known.")
    return element


def _visit(display: bool) -> Any:
    def visit(self: Any, node: Any) -> None:
        from docutils.nodes import SkipNode

        try:
            element = mathml(node.astext(), display)
        except ValueError as error:
            raise ValueError(f"{self.builder.current_docname}, line {node.line}: {error}") from error
        self.body.append(f'<div class="formula" tabindex="0">{element}</div>' if display else element)
        raise SkipNode

    return visit


def setup(app: Any) -> dict[str, Any]:
    app.add_html_math_renderer("mathml", (_visit(False), None), (_visit(True), None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
