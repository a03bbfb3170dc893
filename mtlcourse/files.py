"""What everything stands on: atomic files, content hashes, nested state on disk, seeds, names.

Ground floor: imports torch, numpy and safetensors, nothing of this package. Nothing here, and so
nothing in this project, ever unpickles a file.
"""

import contextlib
import difflib
import errno
import glob
import hashlib
import importlib
import inspect
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeGuard

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

_BLOCKED = "a file stands where a folder is needed, or a folder where a file is: choose another name"
_FORBIDDEN = "choose a folder that you may write to, or have this one opened to you"
REMEDIES = {errno.ENOTDIR: _BLOCKED, errno.EEXIST: _BLOCKED, errno.EISDIR: _BLOCKED, errno.ENOTEMPTY: _BLOCKED,
            errno.EACCES: _FORBIDDEN, errno.EPERM: _FORBIDDEN, errno.EROFS: _FORBIDDEN}  # of a disk that is not full


# --- files -----------------------------------------------------------------------------------------

@contextlib.contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Inside, no other process or thread is inside with the same `path`, a file that is made for it; they wait.

    The system lets go of it when a process dies. Where it has no such locks (Windows), nobody waits.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    with writing(path):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a")
    with handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def writing(target: str | Path) -> Iterator[None]:
    """Inside, whatever the disk refuses becomes an OSError that names `target` and says what to do.

    For use where what stood at `target` is replaced last, by a rename.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:  # safetensors has an error of its own for a full disk
        number, reason = (error.errno, error.strerror) if isinstance(error, OSError) else (errno.EIO, None)
        remedy = REMEDIES.get(number, "free some space or choose another folder")
        raise OSError(number, f"could not write {target} ({reason or error}). What was there before is unchanged; "
                              f"{remedy}, then run again.") from error


def atomic(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Make the file `path` by `write(temporary_path)`; it appears whole or not at all.

    The temporary file stands in the same folder, so that the final rename cannot cross a disk.
    Raises OSError, naming the file, when the disk refuses; what stood at `path` is then untouched.
    """
    path = Path(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            write(Path(name))
            with open(name, "rb") as written:  # a rename before the bytes are down could survive a crash alone
                os.fsync(written.fileno())
            os.chmod(name, 0o644)  # mkstemp makes files that only their owner can read
            os.replace(name, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, atomically."""
    atomic(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: str | Path, content: Any) -> None:
    """Write `content` as readable JSON to `path`, atomically, in its own order; NaN and infinities as such."""
    write_text(path, json.dumps(content, indent=1) + "\n")


# --- hashes ----------------------------------------------------------------------------------------

def canonical(content: Any) -> str:
    """One text for equal plain data: sorted keys, no spaces.

    >>> canonical({"b": (1, 2), "a": 0.5}) == canonical({"a": 0.5, "b": [1, 2]})
    True
    """
    return json.dumps(content, sort_keys=True, separators=(",", ":"))


def config_hash(config: Any) -> str:
    """Sixteen hexadecimal digits that name a configuration of plain data."""
    return hashlib.sha256(canonical(config).encode()).hexdigest()[:16]


def content_hash(tensors: Iterable[Tensor]) -> str:
    """Sixteen hexadecimal digits that name the values, shapes and dtypes of `tensors`, in order."""
    digest = hashlib.sha256()
    for tensor in tensors:
        array = tensor.detach().cpu().contiguous()
        digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
        digest.update(array.flatten().view(torch.uint8).numpy() if array.numel() else b"")
    return digest.hexdigest()[:16]


# --- nested state: one safetensors file and one JSON ---------------------------------------------------

def save_state(path: str | Path, state: Any) -> None:
    """Save nested dicts and lists of tensors and plain data as `path`.json and a safetensors file.

    The JSON is replaced last and names its tensors by their content, so a crash at any moment leaves
    the former pair or the new one, never half of each. Raises OSError as `atomic` does.
    """
    from safetensors.torch import save_file

    path, tensors = Path(path), {}
    plain = _pack(state, "", tensors)
    name = f"{path.name}-{content_hash(tensors.values())}.safetensors"
    # Clones, because safetensors refuses tensors that share memory.
    atomic(path.parent / name, lambda temporary: save_file({k: t.clone() for k, t in tensors.items()}, temporary))
    write_json(path.with_name(path.name + ".json"), {"tensors": name, "state": plain})
    # Sixteen digits and nothing else: "state-*" would also take the tensors of a checkpoint called "state-2".
    for old in path.parent.glob(f"{glob.escape(path.name)}-{'[0-9a-f]' * 16}.safetensors"):
        if old.name != name:
            old.unlink(missing_ok=True)


def load_state(path: str | Path) -> Any:
    """The nested state that `save_state` wrote to `path`, or None when there is none."""
    from safetensors.torch import load_file

    path = Path(path)
    description = path.with_name(path.name + ".json")
    if not description.exists():
        return None
    content = json.loads(description.read_text(encoding="utf-8"))
    return _unpack(content["state"], load_file(path.parent / content["tensors"]))


def _pack(state: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(state, Tensor):
        key = f"{len(tensors)}{key}"  # numbered, for a/b may be one key or two
        tensors[key] = state.detach().cpu().contiguous()
        return {"__tensor__": key}
    if isinstance(state, dict):
        # Keys keep their type: optimizer states are numbered by integers.
        return {"__dict__": [[k, _pack(v, f"{key}/{k}", tensors)] for k, v in state.items()]}
    if isinstance(state, (list, tuple)):
        return [_pack(v, f"{key}/{i}", tensors) for i, v in enumerate(state)]
    if state is None or isinstance(state, (bool, int, float, str)):
        return state
    raise TypeError(f"Cannot save {key or 'state'}: {type(state).__name__} is neither a tensor nor plain data.")


def _unpack(plain: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(plain, list):
        return [_unpack(value, tensors) for value in plain]
    if isinstance(plain, dict):
        if "__tensor__" in plain:
            return tensors[plain["__tensor__"]]
        return {key: _unpack(value, tensors) for key, value in plain["__dict__"]}
    return plain


# --- seeds -----------------------------------------------------------------------------------------

def seed_everything(seed: int) -> None:
    """Seed torch (all devices) and numpy's global generator: the one way this project is seeded."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)


def derived_seed(seed: int, name: str) -> int:
    """A seed for the part called `name`, the same wherever that part is used.

    >>> derived_seed(0, "head.left") == derived_seed(0, "head.left") != derived_seed(0, "head.right")
    True
    """
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:7], "big")


@contextlib.contextmanager
def part(name: str) -> Iterator[None]:
    """Inside, random numbers depend on (last seed set, `name`) only; outside nothing has been drawn.

    Models build each of their parts inside such a context, so that the same part has the same initial
    weights in every model, whatever else the model has.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(torch.initial_seed(), name))
        yield


# --- names -----------------------------------------------------------------------------------------

def same_source(one: Any, other: Any) -> bool:
    """Whether two functions or classes come from the same place, as those of a notebook cell run twice do."""
    first, second = [(getattr(thing, "__module__", None), getattr(thing, "__qualname__", id(thing)))
                     for thing in (one, other)]
    return first == second


def printed(form: str, value: Any) -> str:
    """`form.format(value)`, a zero without the sign that is left of what was rounded away.

    >>> printed("{:+.1f}", -0.04), printed("{:+.1f}", -0.06), printed("{:.2f}", -0.0)
    ('0.0', '-0.1', '0.00')
    """
    text = form.format(value)
    return text.lstrip("+-") if not any(digit in text for digit in "123456789") else text


def is_whole(value: Any, least: float | int = -math.inf) -> TypeGuard[int]:
    """Whether `value` is a whole number from `least` upwards; True and False, which Python counts as such, are none.

    >>> is_whole(3, 1), is_whole(0, 1), is_whole(True), is_whole(2.0)
    (True, False, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_number(value: Any) -> TypeGuard[float]:
    """Whether `value` is a whole or a real number, NaN and infinity with them; True and False are none.

    >>> is_number(3), is_number(0.5), is_number(True), is_number("3")
    (True, True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool)


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """The message for a name that is not known: what there is, the nearest first.

    >>> unknown("method", "hsp", ["stl", "hps"])
    "Unknown method 'hsp'. Known: hps, stl."
    """
    known = sorted(known)
    near = difflib.get_close_matches(name, known, n=len(known) or 1, cutoff=0.5)
    return f"Unknown {what} {name!r}. Known: {', '.join(near + [k for k in known if k not in near])}."


def optional(module: str, extra: str) -> ModuleType:
    """The package `module`, which the extra of that name brings; ModuleNotFoundError, saying what to install.

    >>> optional("no_such_package", "text")
    Traceback (most recent call last):
    ...
    ModuleNotFoundError: This needs no_such_package, which cannot be imported (No module named 'no_such_package'). \
Install the text extra: pip install -c constraints/core.txt 'mtlcourse[text]'.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"This needs {module}, which cannot be imported ({error}). Install the {extra} extra: "
            f"pip install -c constraints/core.txt 'mtlcourse[{extra}]'.", name=module) from error


def imported(address: str, what: str, wanted: str) -> Callable[..., Any]:
    """The function at `package.module:function`, looked for in the working folder too.

    what: for which it stands, as "problem".  wanted: what it must be, as "a function that returns a Problem".
    Raises ValueError for what is no such address, for a module or function that is not there, and for no function.
    """
    module_name, _, attribute = address.partition(":")
    if not attribute.isidentifier() or not all(part.isidentifier() for part in module_name.split(".")):
        raise ValueError(f"{address!r} is not the address of a function; write 'package.module:function', "
                         "with dots between packages and no '.py'.")
    here = os.getcwd()
    if here not in sys.path:  # `python -m` puts it there, a console script does not; last, so it hides nothing
        sys.path.append(here)
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, but something that it imports is not
        raise ValueError(f"No module {error.name!r} for {what} {address!r}. Looked in {here} and in the installed "
                         "packages: run from the folder that holds it, or install it.") from error
    if not hasattr(module, attribute):
        functions = [key for key, value in vars(module).items() if inspect.isfunction(value)
                     and value.__module__ == module_name and not key.startswith("_")]  # its own, not what it imports
        raise ValueError(unknown(f"function in {module.__file__}", attribute, functions))
    function = getattr(module, attribute)
    if not callable(function):
        raise ValueError(f"{address!r} is {type(function).__name__}, not {wanted}.")
    return function
