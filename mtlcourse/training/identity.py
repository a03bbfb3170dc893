"""What a training is, as plain data: all that its checkpoint and its configuration must tell apart.

Imports `files` and `strategies`. Equal choices give equal descriptions, in another process too; different
ones give different descriptions, whatever they are made of: numbers, tensors, functions, objects.
"""

import functools
import hashlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..files import content_hash
from ..strategies import Strategy

FEW = 64  # entries of a tensor that are written out; of larger ones the hash


def described(choice: Any) -> str | None:
    """One text for a choice: None and a name as they are, a strategy, a function or an object with all that is in it.

    A strategy is its class and every option, defaults included, of both parts if it is a combination; an
    option that was changed afterwards counts as it is now. A function is its address and a hash of its code, of its
    defaults and of what it encloses; globals that it looks up are not looked into.

    >>> from mtlcourse.strategies import make
    >>> described(make("dwa", T=5))
    'DynamicWeightAverage(T=5)'
    """
    return choice if choice is None or isinstance(choice, str) else _text(choice, ())


def settings_of(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Any]:
    """`{"optimizer": ..., "lr": ..., "weight_decay": ...}` as optimisers have them; a list where they have several."""
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    kinds = [type(optimizer).__name__.lower() for optimizer in optimizers]
    rates = [_number(group.get("initial_lr", group.get("lr"))) for group in groups]
    decays = [_number(group.get("weight_decay", 0.0)) for group in groups]
    return {"optimizer": _one_or_all(kinds), "lr": _one_or_all(rates), "weight_decay": _one_or_all(decays)}


def groups_of(optimizers: Sequence[torch.optim.Optimizer]) -> list[str]:
    """Each optimiser with all settings of each of its groups, the parameters counted."""
    def setting(group: Mapping[str, Any]) -> dict[str, Any]:
        now = {key: value for key, value in group.items() if key != "params"}
        return {**now, "lr": group.get("initial_lr", group.get("lr")), "params": len(group["params"])}

    return [f"{_address(type(optimizer))}({_text([setting(group) for group in optimizer.param_groups], ())})"
            for optimizer in optimizers]


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _one_or_all(values: list) -> Any:
    unique = list(dict.fromkeys(values))
    return unique[0] if len(unique) == 1 else unique


def _text(value: Any, within: tuple[int, ...]) -> str:
    """`value` as text; `within`: the objects that it is a part of, so that a circle has an end."""
    if value is None or isinstance(value, bool | str | bytes | complex):
        return repr(value)
    if isinstance(value, int | float):
        return repr(int(value) if value == value and abs(value) < 1e15 and value == int(value) else float(value))
    if isinstance(value, np.generic):
        return _text(value.item(), within)
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(np.ascontiguousarray(value)) if value.dtype != object else value.tolist()
    if isinstance(value, Tensor):
        if value.numel() > FEW:
            return f"tensor{tuple(value.shape)}#{content_hash([value])}"
        return _text(value.detach().tolist(), within)
    if id(value) in within:
        return "..."
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{_text(k, within)}: {_text(v, within)}" for k, v in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(_text(item, within) for item in value)) + "}"
    if isinstance(value, list | tuple | range):
        return "[" + ", ".join(_text(item, within) for item in value) + "]"
    if isinstance(value, Strategy):
        return f"{type(value).__name__}({_keywords(_options(value), within)})"
    if isinstance(value, functools.partial):
        return f"partial({', '.join([_text(value.func, within), _text(value.args, within)])}, " \
               f"{_keywords(value.keywords, within)})"
    if isinstance(value, types.MethodType):
        return f"{_text(value.__self__, within)}.{value.__name__}"
    if isinstance(value, types.FunctionType):
        return f"{_address(value)}#{_hash(_function(value, within))}"
    if isinstance(value, type) or not hasattr(value, "__dict__"):
        return _address(value) if hasattr(value, "__qualname__") else _address(type(value))
    return f"{_address(type(value))}({_keywords(vars(value), within)})"


def _options(strategy: Strategy) -> dict[str, Any]:
    now = {name: value for name, value in vars(strategy).items()
           if isinstance(value, bool | int | float | str | list | tuple | dict | Tensor)}
    return {name: now.get(name, value) for name, value in strategy.options.items()}


def _keywords(items: Mapping[str, Any], within: tuple[int, ...]) -> str:
    return ", ".join(f"{key}={_text(items[key], within)}" for key in sorted(items))


def _function(function: types.FunctionType, within: tuple[int, ...]) -> str:
    enclosed = [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
    return f"{_code(function.__code__)}{_text([function.__defaults__, function.__kwdefaults__, enclosed], within)}"


def _filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # of a function that encloses itself before it has a name
        return False
    return True


def _code(code: types.CodeType) -> str:
    constants = [_code(value) if isinstance(value, types.CodeType) else _text(value, ()) for value in code.co_consts]
    return f"{code.co_code.hex()}{code.co_names}{constants}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _address(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
