"""Public docstrings say what can go wrong, where a method comes from, and which shapes tensors have."""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from torch import Tensor, nn

from mtlcourse import metrics, models, strategies, theory
from mtlcourse.course.book import reference

CALLED = ("__init__", "__post_init__", "__call__")  # what a user calls by the name of the class, or of an object
PUBLIC = [(part, name, thing) for part in reference.PARTS for name, thing in reference.public(part).items()]


def functions(thing: Any) -> Iterator[Callable]:
    """The function, or the public methods of a class that stand in its own body."""
    if inspect.isfunction(thing):
        yield inspect.unwrap(thing)
        return
    for name, member in vars(thing).items():
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function) and (not name.startswith("_") or name in CALLED):
            function = inspect.unwrap(function)
            if function.__module__.startswith("mtlcourse.") and "<string>" not in function.__code__.co_filename:
                yield function


def definition(function: Callable) -> ast.FunctionDef:
    (node,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(node, ast.FunctionDef)
    return node


def said(thing: Any, function: Callable) -> str:
    """What the reference says of a function: its own words, and those of its class."""
    return f"{thing.__doc__ or ''}\n{function.__doc__ or ''}"


# --- what is raised -----------------------------------------------------------------------------------

def raised(node: ast.AST) -> Iterator[ast.Raise]:
    """The raises of a function's own body, without those of functions inside it."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise):
            yield child
        elif not isinstance(child, ast.FunctionDef | ast.Lambda | ast.ClassDef):
            yield from raised(child)


def untold(thing: Any, function: Callable) -> list[str]:
    """Exceptions that the body raises and the words do not name, neither as they are nor as what they are a kind of.

    A method that does nothing but raise is for subclasses to define. "Raises as `x`", or what it raises, sends to x.
    """
    node, words = definition(function), said(thing, function)
    statements = node.body[ast.get_docstring(node) is not None :]
    if len(statements) == 1 and isinstance(statements[0], ast.Raise):
        return []
    missing = []
    for one in raised(node):
        if one.exc is None or re.search(r"[Rr]aises? (what `|as )", words):
            continue
        what = ast.unparse(one.exc.func if isinstance(one.exc, ast.Call) else one.exc)
        kind = function.__globals__.get(what.split(".")[-1], getattr(__import__("builtins"), what, None))
        names = [base.__name__ for base in kind.__mro__[:-3]] if inspect.isclass(kind) else ["Error", "Raise"]
        if not any(re.search(rf"{name}", words) for name in names):
            missing.append(f"{function.__qualname__}: {what}")
    return missing


@pytest.mark.parametrize("part", reference.PARTS)
def test_what_a_public_function_raises_is_told(part: str):
    found = [line for name, thing in reference.public(part).items() for function in functions(thing)
             for line in untold(thing, function)]
    assert found == []


def silent(x):
    """Halves."""
    if x < 0:
        raise ValueError("negative")
    return x / 2


def loud(x):
    """Halves. Raises ArithmeticError for zero, and as `silent` does."""
    if x == 0:
        raise ZeroDivisionError("zero")
    return silent(x)


def test_an_untold_error_is_noticed():
    assert untold(silent, silent) == ["silent: ValueError"]
    assert untold(loud, loud) == []


# --- where it comes from ------------------------------------------------------------------------------

def sourced() -> list[tuple[str, Any]]:
    """What has a source or is ours: strategies with a name, models, measures, bounds."""
    kinds = {
        "strategies": [type(strategies.make(name)) for name in strategies.names()],
        "models": [thing for thing in reference.public("models").values()
                   if inspect.isclass(thing) and issubclass(thing, nn.Module)
                   and thing not in (models.MTLModel, models.DomainModel, models.Shallow)],
        "metrics": [thing for thing in reference.public("metrics").values()
                    if thing is not metrics.Probe and not inspect.isabstract(thing)],
        "theory": [thing for thing in reference.public("theory").values()
                   if inspect.isfunction(thing) and inspect.signature(thing).return_annotation is theory.Bound],
    }
    return [(part, thing) for part, things in kinds.items() for thing in things]


def source_of(words: str) -> str:
    """What stands behind "Source:", or "No source:", to the end of the paragraph."""
    found = re.search(r"\b(?:Source|No source): (.{4,}?)(?=\n\s*\n|\s*$)", words, re.DOTALL)
    return "" if found is None else " ".join(found[1].split())


@pytest.mark.parametrize(("part", "thing"), sourced(), ids=lambda value: getattr(value, "__name__", value))
def test_a_method_and_a_measure_say_where_they_come_from(part: str, thing: Any):
    source = source_of(thing.__doc__ or "")
    assert re.match(r"(ours|common)\b", source) or re.search(r"[A-Z]\w+ \w+", source), (
        f"mtlcourse.{part}.{thing.__name__} needs 'Source: title, equation', or 'No source: ours', or 'No source: "
        "common' for a definition that is in every textbook.")


def test_a_source_is_a_title_or_ours():
    assert source_of("Weighs.\n\nSource: Some Paper, 2020,\nequation 3.\n\n>>> 1") == "Some Paper, 2020, equation 3."
    assert source_of("Weighs. No source: ours, for want of a paper.").startswith("ours")
    assert source_of("Weighs.") == ""


# --- which shapes tensors have ------------------------------------------------------------------------

def shapeless(annotation: ast.AST | None) -> bool:
    """Whether a tensor or array stands in an annotation without its shape."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in SHAPED:
        return False
    if isinstance(annotation, ast.Name | ast.Attribute):
        return ast.unparse(annotation) in ("Tensor", "np.ndarray")
    return annotation is not None and any(shapeless(child) for child in ast.iter_child_nodes(annotation))


SHAPED = {"Bool", "Callable", "Float", "Float64", "Int", "Int64", "Integer", "Shaped", "UInt8"}
SHAPE = re.compile(r"\([\w*]+,[^)]*\)|`\(\w+\)`|\bscalars?\b|\bnumbers?\b|\bshape\b|\b[Aa]s `?\w+")


def unshaped(thing: Any, function: Callable) -> list[str]:
    """Arguments of a function that the reference shows whose shape neither type nor words give."""
    arguments = definition(function).args
    bare = [one.arg for one in arguments.args + arguments.kwonlyargs if shapeless(one.annotation)]
    shown = inspect.isfunction(thing) or function.__doc__ or function.__name__ == "__init__"
    return [f"{function.__qualname__}: {', '.join(bare)}"] if bare and shown and not SHAPE.search(
        said(thing, function)) else []


@pytest.mark.parametrize("part", reference.PARTS)
def test_tensors_have_their_shapes(part: str):
    found = [line for name, thing in reference.public(part).items() for function in functions(thing)
             for line in unshaped(thing, function)]
    assert found == []


def bare(x: Tensor):
    """Halves x."""
    return x / 2


def worded(x: Tensor):
    """Halves x, (samples, features)."""
    return x / 2


def test_a_tensor_without_a_shape_is_noticed():
    assert unshaped(bare, bare) == ["bare: x"]
    assert unshaped(worded, worded) == []
    assert shapeless(ast.parse("dict[str, Tensor] | None", mode="eval").body)
    assert not shapeless(ast.parse("Float[Tensor, 'n d'] | Callable[[Tensor], Tensor]", mode="eval").body)
