"""Problems by name: `register` puts them in, `load`, `domains` and `describe` make them, `names` lists them.

Imports `files`, `grammar` and `tasks`, and its folder's `domains`. Wherever a registered name is taken, so is
`package.module:function`, the address of a function of your own that returns a `Problem` or a `DomainProblem`.
"""

import dataclasses
import inspect
import json
from collections.abc import Callable
from typing import Any, TypeVar

from ..files import imported, same_source, unknown
from ..grammar import parse_part
from ..tasks import Problem
from .domains import DomainProblem

AnyProblem = Problem | DomainProblem
Function = TypeVar("Function", bound=Callable[..., AnyProblem])
_PROBLEMS: dict[str, Callable[..., AnyProblem]] = {}
_DOMAINS: dict[str, Callable[..., AnyProblem]] = {}  # those of them that return a `DomainProblem`


def register(name: str, domains: Any = False) -> Callable[[Function], Function]:
    """Decorator: make the function below it the problem called `name`.

    The function takes options by keyword and returns a `Problem`, or with `domains=True` a `DomainProblem`. If it has
    a parameter `with_data`, then `describe` calls it with `with_data=False` and it may leave the splits None, which
    saves the time of making them. Both calls run the same lines, so the tasks cannot differ.
    Raises ValueError for a name with a colon or a space, or one that another function already has.
    """
    if not name or ":" in name or any(character.isspace() for character in name):
        raise ValueError(f"A problem cannot be called {name!r}: use letters, digits, '-' and '_'; a colon is for the "
                         "address of a function, 'package.module:function'.")

    def remember(function: Function) -> Function:
        before = _PROBLEMS.get(name)
        if before is not None and not same_source(before, function):
            raise ValueError(f"The name {name!r} is taken by {before.__module__}.{before.__qualname__}; "
                             "choose another.")
        _PROBLEMS[name] = function
        if domains:
            _DOMAINS[name] = function
        return function

    return remember


def names(domains: Any = False) -> list[str]:
    """The registered multi-task problems, sorted; with `domains=True` those of several domains instead."""
    return sorted(name for name in _PROBLEMS if (name in _DOMAINS) == bool(domains))


def load(name: str, **options: Any) -> Problem:
    """The problem called `name`, or made by the function at `package.module:function`, with its data.

    options: as the problem's function documents them; its `Problem.options` holds all of them, defaults
        included, as plain data.
    Raises ValueError for an unknown name or address, TypeError for an unknown or missing option or for
    a function that returns something else than a `Problem` with data.

    >>> problem = load("multidigits", train=100, val=20, test=20)
    >>> problem.task_names, problem.input_shape, len(problem.train)
    (['left', 'right'], (1, 36, 36), 100)
    """
    problem = load_any(name, options)
    if not isinstance(problem, Problem):
        raise TypeError(f"{name!r} is a problem of several domains, for the methods that adapt to one without labels: "
                        f"data.domains({name!r}) loads it, and methods.names(domains=True) names these methods.")
    return problem


def domains(name: str, **options: Any) -> DomainProblem:
    """The problem of several domains called `name`, or made by the function at `package.module:function`.

    options: as of `load`. Raises as `load` does, and TypeError for a problem that is not of several domains.

    >>> problem = domains("digit_domains", source="optdigits", target="mnist")
    >>> problem.task.name, problem.task_names, problem.input_shape
    ('optdigits', ['mnist'], (1, 8, 8))
    """
    problem = load_any(name, options)
    if not isinstance(problem, DomainProblem):
        raise TypeError(f"{name!r} is a multi-task problem, which data.load({name!r}) loads. Problems of several "
                        f"domains are {', '.join(names(domains=True))}.")
    return problem


def introduce(*names: str) -> None:
    """Import the files that these problems lie in, so that the methods and strategies they register are known.

    names: as typed, with options or without. It is done before a method's name is read, for the file of a problem of
    your own may bring the method with it. Raises ValueError as `load` does where there is no such problem or file.

    >>> introduce("rooms(train=400)", "multidigits")  # of the package: nothing is left to import
    """
    for name in names:
        _find(parse_part(name).name)


def load_any(name: str, options: dict[str, Any]) -> AnyProblem:
    """The problem called `name` with its data, of either kind; raises as `load` does."""
    problem = _make(name, options, with_data=True)
    absent = [split for split in ("train", "val", "test") if getattr(problem, split) is None]
    if absent:
        raise TypeError(f"Problem {name!r} came without data: {', '.join(absent)} is None. Its function must fill "
                        "all three splits, for instance with `TensorSplit(inputs, targets)`.")
    return problem


def describe(name: str, **options: Any) -> Any:
    """What `load` or `domains` would return, with train, val and test None: tasks, shapes, encoder, options.

    >>> problem = describe("rooms")
    >>> problem.task_names, problem.train
    (['segmentation', 'depth', 'normals'], None)
    """
    problem = _make(name, options, with_data=False)
    if isinstance(problem, DomainProblem):
        return problem.described()
    return dataclasses.replace(problem, train=None, val=None, test=None)


def _make(name: str, options: dict[str, Any], with_data: bool) -> AnyProblem:
    function = _find(name)
    resolved = _resolve(name, function, options)
    switch = {"with_data": with_data} if "with_data" in inspect.signature(function).parameters else {}
    problem = function(**resolved, **switch)
    if not isinstance(problem, Problem | DomainProblem):
        raise TypeError(f"{name!r} returned {type(problem).__name__}, not a Problem. "
                        "A problem's function ends with `return Problem(name, tasks, train, val, test, ...)`.")
    return dataclasses.replace(problem, options=_plain(name, {**resolved, **problem.options}))


def _find(name: str) -> Callable[..., AnyProblem]:
    if ":" in name:
        return imported(name, "problem", "a function that returns a Problem")
    if name not in _PROBLEMS:
        raise ValueError(unknown("problem", name, _PROBLEMS) + " Your own is 'package.module:function'.")
    return _PROBLEMS[name]


def _resolve(name: str, function: Callable, options: dict[str, Any]) -> dict[str, Any]:
    """`options` with the function's defaults filled in; TypeError for those it does not have or still needs."""
    parameters = {key: parameter for key, parameter in inspect.signature(function).parameters.items()
                  if key != "with_data"}
    known = {key: parameter for key, parameter in parameters.items()
             if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)}
    open_ended = any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters.values())
    for option in options:
        if option == "with_data" or (option not in known and not open_ended):
            raise TypeError(unknown(f"option of problem {name!r}", option, known))
    missing = [key for key, parameter in known.items() if parameter.default is parameter.empty and key not in options]
    if missing:
        raise TypeError(f"Problem {name!r} needs the option {missing[0]!r}: load({name!r}, {missing[0]}=...).")
    defaults = {key: parameter.default for key, parameter in known.items() if key not in options}
    return {**defaults, **options}


def _plain(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """`options` as they read back from JSON (tuples become lists), so that a stored run names the same data."""
    try:
        return json.loads(json.dumps(options, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"The options of problem {name!r} must be plain data (numbers, strings, lists, true, false, "
                        f"null), because every run stores them: {error}.") from None
