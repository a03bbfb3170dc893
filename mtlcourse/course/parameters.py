"""Which notebooks to run, and with which parameters, from what was typed.

papermill only warns about a parameter that a notebook does not have; here names and types are checked
before anything runs. Imports papermill, and the wording of `files.unknown`, where they are used.
"""

import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def choose(notebooks: Sequence[Path], only: Sequence[str]) -> list[Path]:
    """Those of `notebooks` that `only` names, by number ("01") or by name; all when it is empty.

    Raises ValueError for a notebook that there is not.
    """
    for name in only:
        if not any(_is_called(path, name) for path in notebooks):
            raise ValueError(_unknown("notebook", name, [path.stem for path in notebooks]))
    return [path for path in notebooks if not only or any(_is_called(path, name) for name in only)]


def _is_called(path: Path, name: str) -> bool:
    return name in (path.stem, path.stem[:2])


def assign(notebooks: Sequence[Path], assignments: Sequence[str]) -> dict[Path, dict[str, Any]]:
    """The parameters of each notebook: `{path: {name: value}}`.

    assignments: `NN:name=value` for one notebook, `name=value` for all that have the parameter. A value
        is a Python literal; anything else is a string, so that `budget=smoke` needs no quotes.
    Raises ValueError for a notebook or a parameter that there is not, and for a value of another type
    than the notebook's own (an integer will do for a real number).
    """
    values: dict[Path, dict[str, Any]] = {path: {} for path in notebooks}
    known = {path: defaults(path) for path in notebooks} if assignments else {}
    for assignment in assignments:
        target, name, value = _parse(assignment)
        named = choose(notebooks, [target]) if target else notebooks
        having = [path for path in named if name in known[path]]
        if not having:
            message = _unknown("parameter", name, {name for path in named for name in known[path]})
            raise ValueError(f"Notebook {target}: {message}" if target else message)
        for path in having:
            _check_type(path, name, value, known[path][name])
            values[path][name] = value
    return values


def _parse(assignment: str) -> tuple[str, str, Any]:
    left, equals, text = assignment.partition("=")
    target, _, name = left.rpartition(":")
    if not equals or not name:
        raise ValueError(f"A parameter is given as name=value or NN:name=value, such as 01:seed=3; not {assignment!r}.")
    return target.strip(), name.strip(), _literal(text)


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def defaults(path: Path) -> dict[str, Any]:
    """The parameters that the notebook at `path` has, with the values it gives them itself."""
    import papermill

    return {name: _literal(about["default"]) for name, about in papermill.inspect_notebook(path).items()}


def _check_type(path: Path, name: str, value: Any, default: Any) -> None:
    fits = type(value) is type(default) or default is None or (type(default) is float and type(value) is int)
    if not fits:
        raise ValueError(f"{path.stem}: parameter {name} is {default!r} there, of type {type(default).__name__}; "
                         f"{value!r} is of type {type(value).__name__}.")


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    from ..files import unknown  # loads torch, which only a mistake has to wait for

    return unknown(what, name, known)
