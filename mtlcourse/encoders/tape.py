"""What a model does between its cuts, written down while it does it without values, and done again with values.

Imports `staged`. A call is that of a module in which no cut lies, or of one of torch's functions outside such
modules. It is followed on the meta device, where Python sees true shapes and may decide by them.
"""

import copy
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .staged import ShapesOnly


class Uncuttable(ValueError):
    """A model that cannot be cut where it was to be."""


@dataclass(frozen=True)
class Value:
    """What call number `call` of a stage gave, counted from 1, or the stage's input, 0; path: where in it."""

    call: int
    path: tuple = ()


@dataclass(frozen=True)
class Own:
    """A parameter or buffer of the model, by its name."""

    name: str


@dataclass(frozen=True)
class Growing:
    """The whole number `each * samples + more`."""

    each: int
    more: int


@dataclass(frozen=True)
class Here:
    """The device of the stage's input."""


@dataclass(frozen=True)
class Call:
    """One call. target: name of a module, or a function.  arguments: positional and named ones, as they were written
    down.  unneeded: numbers of the values that no later call needs.
    """

    target: str | Callable
    arguments: tuple[tuple, dict[str, Any]]
    unneeded: tuple[int, ...] = ()

    def __str__(self) -> str:
        name = self.target if isinstance(self.target, str) else getattr(self.target, "__name__", str(self.target))
        return repr(name.strip("_") if callable(self.target) else name)


@dataclass(frozen=True)
class Program:
    """The calls of one stage, and its result.  writes: whether they change the stage's input in its place."""

    calls: tuple[Call, ...]
    result: Any
    writes: bool

    def __deepcopy__(self, memo: dict) -> "Program":
        return self  # a copy of a stage does the same with other weights

    def names(self) -> list[str]:
        """The modules, parameters and buffers that are used."""
        modules = [call.target for call in self.calls if isinstance(call.target, str)]
        return modules + [part.name for part in _leaves([call.arguments for call in self.calls] + [self.result])
                          if isinstance(part, Own)]

    def run(self, stage: nn.Module, z: Tensor) -> Tensor:
        """What the stage makes of `z`, with the modules and parameters that `stage` has under the model's names."""
        values: list[Any] = [z.clone() if self.writes else z]  # z may be needed elsewhere

        def found(part: Any) -> Any:
            if isinstance(part, Value):
                return functools.reduce(lambda whole, key: whole[key], part.path, values[part.call])
            if isinstance(part, Own):
                return functools.reduce(getattr, part.name.split("."), stage)
            if isinstance(part, Growing):
                return part.each * z.shape[0] + part.more  # symbolic while it is exported
            return z.device if isinstance(part, Here) else part

        for call in self.calls:
            target = stage.get_submodule(call.target) if isinstance(call.target, str) else call.target
            arguments, named = _mapped(found, call.arguments)
            values.append(target(*arguments, **named))
            for number in call.unneeded:
                values[number] = None
        return found(self.result)


class _Shapes(ShapesOnly):
    """As its parent, but what a batch norm gives is a tensor of its own."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        result = super().__torch_function__(function, types, args, kwargs)
        return torch.empty_like(result) if function is nn.functional.batch_norm else result


class Tape(TorchFunctionMode):
    """Writes down what a model does, stage by stage; afterwards `programs` has it.

    model: of which a copy without values is followed, in training or evaluation mode.  cuts: names of its modules.
    """

    def __init__(self, model: nn.Module, cuts: Sequence[str], training: bool):
        super().__init__()
        without_values: dict[int, Any] = {id(tensor): tensor.to("meta") for tensor in model.buffers()}
        for weight in model.parameters():
            without_values[id(weight)] = nn.Parameter(weight.detach().to("meta"), weight.requires_grad)
        self.model, self.cuts = copy.deepcopy(model, without_values).train(training), list(cuts)
        own = [*self.model.named_parameters(), *self.model.named_buffers()]
        self.names = {id(tensor): name for name, tensor in own}
        self.buffers = {id(tensor) for tensor in self.model.buffers()}
        self.programs: list[Program] = []
        self.ended: list[str] = []
        self.inside, self.calls, self.known = 0, [], {}  # type: ignore[var-annotated]
        self.drawn, self.constants = 0, {}  # type: ignore[var-annotated]
        self.kept: list[Any] = []  # a tensor that is gone could lend its id to another
        modules = dict(self.model.named_modules(remove_duplicate=False))
        ends = {id(modules[cut]): cut for cut in cuts}
        opened = {id(modules[cut.rsplit(".", depth)[0]]) for cut in cuts for depth in range(1, cut.count(".") + 1)}
        for name, module in self.model.named_modules():
            if name and (id(module) not in opened or id(module) in ends):
                module.__dict__["forward"] = functools.partial(
                    self._module, name, module.forward, id(module) not in opened, ends.get(id(module)))

    def follow(self, x: Tensor) -> None:
        """Follow the model with `x`, on the meta device, to the last cut. Raises Uncuttable, and what the model may."""
        self._begin(x)
        try:
            with torch.no_grad(), torch.device("meta"), self:
                end = self.model(x)
            if self.cuts[-1] == "" and not self._over:
                self._end("", end)
        except Uncuttable:
            raise
        except Exception:  # whatever the rest of the model does, nobody wants it
            if not self._over:
                raise
        if not self._over:
            raise Uncuttable(f"The model has a module {self.cuts[len(self.programs)]!r}, at which to cut, and does not "
                             "call it in its forward pass. Cut at a module that it calls, such as the last one of a "
                             "ModuleList.")

    # --- what is called ---

    def __torch_function__(self, function, types, args=(), kwargs=None):
        before, named = self.drawn, kwargs or {}
        result = function(*args, **named)
        self.drawn += _draws(function)
        if not self.inside and not self._over:
            if any(isinstance(part, Tensor) for part in _leaves(result)) or (
                    result is None and any(isinstance(part, Tensor) for part in _leaves([args, named]))):
                self._note(function, args, named, result, self.drawn == before)
        return result

    def _module(self, name: str, forward: Callable, whole: bool, cut: str | None, *args: Any, **named: Any) -> Any:
        before = self.drawn
        if self.inside or not whole:
            result = forward(*args, **named)
        else:
            self.inside += 1
            try:
                with _Shapes():
                    result = forward(*args, **named)
            finally:
                self.inside -= 1
            if not self._over:
                weightless = not any(True for _ in self.model.get_submodule(name).parameters())
                self._note(name, args, named, result, weightless and self.drawn == before)
        if cut is not None:
            self._end(cut, result)
        return result

    def _note(self, target: str | Callable, args: tuple, named: dict[str, Any], result: Any, sure: bool) -> None:
        """Write down a call. sure: it has no weights and throws no dice, so from constants it makes constants, which a
        later stage that needs them makes once more: positions, angles, masks that look at no sample.
        """
        call, taken = Call(target, ((), {})), [part for part in _leaves([args, named]) if isinstance(part, Tensor)]
        constant = sure and all(self._constant(part) or id(part) in self.buffers for part in taken)
        self.calls.append(Call(target, _mapped(lambda part: self._written(part, call), (args, named))))
        self.kept += [result, *taken]
        for path, part in _paths(result):
            if isinstance(part, Tensor) and self.known.get(id(part), (None,))[0] != len(self.programs):
                self.known[id(part)] = (len(self.programs), Value(len(self.calls), path), call)
                if constant:
                    self.constants[id(part)] = (part._version, (target, args, named, result, sure))

    def _constant(self, tensor: Tensor) -> bool:
        """Whether it was made from constants, and nothing was written into it since."""
        return id(tensor) in self.constants and self.constants[id(tensor)][0] == tensor._version

    def _written(self, part: Any, call: Call) -> Any:
        """How an argument of `call` is written down."""
        if isinstance(part, torch.device) and part.type == "meta":
            return Here()
        if not isinstance(part, Tensor):
            return part
        if id(part) in self.names:
            return Own(self.names[id(part)])
        if id(part) not in self.known:
            raise Uncuttable(f"{call} takes a tensor of shape {tuple(part.shape)} that is neither computed from the "
                             "input nor a parameter or buffer of the model; make it a buffer.")
        stage, value, maker = self.known[id(part)]
        if stage != len(self.programs) and self._constant(part):
            self._note(*self.constants[id(part)][1])
            value = self.known[id(part)][1]
        elif stage != len(self.programs):
            made = "The model's input" if maker is None else f"What {maker} gives"
            cut = self.cuts[len(self.programs) - 1]
            raise Uncuttable(f"{made}, of shape {tuple(part.shape)}, is needed behind cut {cut!r} as well, by {call}, "
                             "and a stage hands on one tensor only. Cut before it is made or behind where it is needed,"
                             " as outside a residual block.")
        return value

    # --- stages ---

    @property
    def _over(self) -> bool:
        return len(self.programs) == len(self.cuts)

    def _begin(self, z: Tensor) -> None:
        self.calls, self.start = [], (z, z._version)
        self.known[id(z)] = (len(self.programs), Value(0), self.known.get(id(z), (0, 0, None))[2])
        self.kept.append(z)

    def _end(self, cut: str, z: Any) -> None:
        """The stage that ends at `cut` is done, and `z` is what the model makes there."""
        if cut in self.ended:
            raise Uncuttable(f"{cut!r} is called more than once in one forward pass, as in a loop, so it is no one "
                             "place to cut at. Cut at a module around it.")
        self.ended.append(cut)
        if self._over:
            return
        wanted, samples = self.cuts[len(self.programs)], len(self.start[0])
        if cut != wanted:
            raise Uncuttable(f"Cut {wanted!r} does not come before {cut!r}: give cuts in the order in which the model "
                             "calls them.")
        if not isinstance(z, Tensor):
            what = f"{type(z).__name__} of {len(z)}" if isinstance(z, tuple | list | Mapping) else type(z).__name__
            raise Uncuttable(f"{cut or 'The model'!r} gives no tensor but a {what}, and a stage hands on one tensor. "
                             "Cut at a module inside it, or behind it, that gives one.")
        if not self.calls:
            raise Uncuttable(f"Between {cut!r} and the cut before it nothing is computed; leave out one of the two.")
        if not z.dim() or len(z) != samples:
            raise Uncuttable(f"{cut!r} gives a tensor of shape {tuple(z.shape)} for {samples} samples, and a stage's "
                             "first dimension is the samples.")
        result = self._written(z, Call(f"the end at {cut}", ((), {})))
        before, version = self.start
        self.programs.append(Program(tuple(self.calls), result, before._version != version))
        self._begin(z)


def _draws(function: Callable) -> bool:
    """Whether a function of torch's gives something else with another seed."""
    operator = getattr(torch.ops.aten, getattr(function, "__name__", "").strip("_"), None)
    return any(torch.Tag.nondeterministic_seeded in getattr(operator, overload).tags
               for overload in getattr(operator, "overloads", list)())


# --- three batches ------------------------------------------------------------------------------------

def merged(tapes: Sequence[Tape], samples: Sequence[int]) -> list[Program]:
    """The programs for every number of samples, from those that were followed with three.

    Raises Uncuttable where the model does something else with another number.
    """
    programs = []
    for same in zip(*(tape.programs for tape in tapes), strict=True):
        if len({tuple(map(str, program.calls)) for program in same}) > 1:
            raise Uncuttable("The model does something else with another number of samples, or by chance.")
        calls = []
        for called in zip(*(program.calls for program in same), strict=True):
            calls.append(Call(called[0].target, _grown([call.arguments for call in called], samples, called[0])))
        last = {number: place for place, call in enumerate(calls)
                for number in (part.call for part in _leaves(call.arguments) if isinstance(part, Value))}
        kept = same[0].result.call if isinstance(same[0].result, Value) else None
        calls = [Call(call.target, call.arguments, tuple(number for number, at in last.items()
                                                         if at == place and number != kept))
                 for place, call in enumerate(calls)]
        programs.append(Program(tuple(calls), same[0].result, any(program.writes for program in same)))
    return programs


def _grown(parts: Sequence[Any], samples: Sequence[int], call: Call) -> Any:
    """What is the same in all `parts`, but for whole numbers that grow with the samples."""
    first = parts[0]
    if isinstance(first, tuple | list | dict) and len({len(part) for part in parts}) == 1:
        if isinstance(first, dict):
            return {key: _grown([part[key] for part in parts], samples, call) for key in first}
        return type(first)(_grown(some, samples, call) for some in zip(*parts, strict=True))
    if isinstance(first, slice):
        ends = [[part.start, part.stop, part.step] for part in parts]
        return slice(*_grown(ends, samples, call))
    if all(type(part) is type(first) and part == first for part in parts):
        return first
    if all(type(part) is int for part in parts):
        each = (parts[1] - parts[0]) // (samples[1] - samples[0])
        found = Growing(each, parts[0] - each * samples[0])
        if all(found.each * k + found.more == part for k, part in zip(samples, parts, strict=True)):
            return found
    if not isinstance(first, int | float):
        raise Uncuttable(f"{call} takes a {type(first).__name__}, which is not the same from one pass to the next: "
                         "have the model make none, as with use_cache=False in a configuration of transformers.")
    raise Uncuttable(f"{call} takes {parts[0]!r} with {samples[0]} samples and {parts[1]!r} with {samples[1]}; only "
                     "sizes that grow in proportion can be followed.")


# --- nested arguments -----------------------------------------------------------------------------------

def _mapped(function: Callable, part: Any) -> Any:
    """Nested tuples, lists, dicts and slices, with `function` applied to what is in them."""
    if isinstance(part, list | tuple):
        return (list if isinstance(part, list) else tuple)(_mapped(function, inner) for inner in part)
    if isinstance(part, dict):
        return {key: _mapped(function, inner) for key, inner in part.items()}
    if isinstance(part, slice):
        return slice(*(_mapped(function, end) for end in (part.start, part.stop, part.step)))
    return function(part)


def _paths(part: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """All that is in nested tuples, lists and dicts, each with the keys that lead to it."""
    if isinstance(part, list | tuple | Mapping):
        for key, inner in part.items() if isinstance(part, Mapping) else enumerate(part):
            yield from _paths(inner, (*path, key))
    elif isinstance(part, slice):
        yield from _paths([part.start, part.stop, part.step], path)
    else:
        yield path, part


def _leaves(part: Any) -> list[Any]:
    return [leaf for _, leaf in _paths(part)]
