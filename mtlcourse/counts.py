"""How large methods are and what a forward pass costs, counted without data, beside what the papers print.

Imports `data`, `encoders`, `methods`, `published`. Models are built on the meta device, where tensors have shapes
and no content. A floating-point operation is an addition or a multiplication, so a multiply-add counts two; only
convolutions and matrix products are counted, as by `torch.utils.flop_counter`.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from . import data, encoders, methods
from .encoders import size
from .files import printed
from .published import counted, sizes
from .tasks import Problem


def flops(module: nn.Module, shape: Sequence[int], dtype: torch.dtype | None = None) -> int | None:
    """Floating-point operations of one forward pass, in evaluation mode, for one sample of `shape` and `dtype`.

    module: one whose parameters are on the meta device. None if what it computes depends on their values, as with
        a search that samples.

    >>> with torch.device("meta"):
    ...     flops(nn.Linear(3, 5), (3,))
    30
    """
    try:
        with FlopCounterMode(display=False) as counter, torch.no_grad(), encoders.ShapesOnly():
            module.eval()(encoders.trial(shape, dtype, samples=1))
    except RuntimeError as error:
        if "meta tensors" not in str(error):
            raise
        return None
    return counter.get_total_flops()


def count(problem: str, names: Iterable[str] = ("all",)) -> pd.DataFrame:
    """Parameters and FLOPs of a problem's modules, heads and methods, one row each.

    problem: as `methods.load_problem` takes it; its data are not made.
    names: methods; "all" stands for every registered architecture, and for those that the papers' tables count.
    Columns: `problem`, `what` ("module", "head" or "method"), `name`, `parameters`, `learning`: how many of them are
    not frozen, `flops` a sample, and `refused`: why a method cannot be built on this problem, then without numbers.
    Raises ValueError for unknown names, TypeError for an encoder that is none, and ModuleNotFoundError where the
    problem's encoder needs torchvision.
    """
    part = methods.parse_part(problem)
    described = data.describe(part.name, **part.options)
    domains = isinstance(described, data.DomainProblem)
    with torch.device("meta"):
        encoder = _encoder(described)
        heads = {task.name: encoder.decoder(task, encoder.out_shape, described.input_shape)
                 for task in described.tasks}
    stages = zip(encoder.stages, encoder.shapes, encoder.dtypes, strict=False)
    rows = [("module", str(number), size(stage), size(stage, True), flops(stage, shape, dtype), "")
            for number, (stage, shape, dtype) in enumerate(stages, start=1)]
    rows += [("head", task, size(head), size(head, True), flops(head, encoder.out_shape), "")
             for task, head in heads.items()]
    rows += [("method", name, *_of_method(name, described)) for name in _methods(problem, names, domains)]
    return pd.DataFrame([(problem, *row) for row in rows], columns=counted.COLUMNS).astype(
        {"parameters": "Int64", "learning": "Int64", "flops": "Int64"})


def _encoder(described: Problem | data.DomainProblem) -> encoders.StagedEncoder:
    """The problem's encoder on the meta device; of modules in memory a copy."""
    given = described.encoder
    if isinstance(given, Mapping | str):
        return encoders.build(given, described.input_shape, described.input_dtype)
    if not isinstance(given, encoders.StagedEncoder):
        given = encoders.StagedEncoder(encoders.as_stages(given), described.input_shape, dtype=described.input_dtype)
    return copy.deepcopy(given).to("meta")


def count_or_recall(problem: str, names: Iterable[str] = ("all",)) -> tuple[pd.DataFrame, str]:
    """`count`, or without torchvision the stored counts of a problem that needs it, and a note that says so.

    Raises ModuleNotFoundError where nothing is stored for the problem, and ValueError for methods that are not.
    """
    try:
        return count(problem, names), ""
    except ModuleNotFoundError as error:
        if error.name != "torchvision" or problem not in counted.TABLES:
            raise
        note = f"{error} What follows was counted with it before, and stored."
    found = counted.stored()
    found = found[found["problem"] == problem]
    wanted = found["name"].unique() if "all" in names else _methods(problem, names)
    for name in wanted:
        if name not in set(found["name"]):
            raise ValueError(f"{note} There is no stored count of {name!r} on {problem!r}; there are those of "
                             f"{', '.join(found.loc[found['what'] == 'method', 'name'])}.")
    return found[(found["what"] != "method") | found["name"].isin(wanted)], note


def _methods(problem: str, names: Iterable[str], domains: bool = False) -> list[str]:
    """The names, checked and spelt canonically; "all" replaced by all."""
    everything = [*methods.names(domains), *counted.counted_methods(problem)]
    wanted = [other for name in names for other in (everything if name == "all" else [name])]
    return list(dict.fromkeys(methods.canonical(name) for name in wanted))


def _of_method(name: str, problem: Problem | data.DomainProblem) -> tuple[int | None, int | None, int | None, str]:
    try:
        with torch.device("meta"):
            model = methods.build(name, problem).to("meta")  # modules in memory are there, and not made here
    except ValueError as error:
        return None, None, None, str(error)
    return size(model), size(model, True), flops(model, problem.input_shape, problem.input_dtype), ""


# --- beside what is printed ----------------------------------------------------------------------------

def table(counts: pd.DataFrame) -> pd.DataFrame:
    """The methods of `count` beside the papers' figures, one row each.

    Columns: `method`, `parameters`, `learning`, `printed` in millions as it is ("a / b" where tables differ),
    `difference` from the first of these in millions, `flops` a sample, and `explanation`: why they
    differ, or why there is no count.
    """
    rows = []
    for row in counts[counts["what"] == "method"].itertuples():
        printed = sizes.printed_for(row.problem, row.name)
        figures = list(dict.fromkeys(figure for figure, _ in printed if figure))
        comparable = figures and not row.refused and row.name not in counted.SEARCHES
        rows.append({"method": row.name, "parameters": row.parameters, "learning": row.learning,
                     "printed": " / ".join(figures),
                     "difference": row.parameters / 1e6 - float(figures[0]) if comparable else None,
                     "flops": row.flops,
                     "explanation": row.refused or (_explanation(printed) if printed else "")})
    return pd.DataFrame(rows).astype({"parameters": "Int64", "learning": "Int64", "difference": float,
                                      "flops": "Int64"})


def _explanation(printed: list[tuple[str, str]]) -> str:
    """The one reason for all printed figures, or each figure's own."""
    reasons = list(dict.fromkeys(why for _, why in printed))
    return reasons[0] if len(reasons) == 1 else "; ".join(f"{figure} {why}" for figure, why in printed if why)


def show(counts: pd.DataFrame) -> str:
    """`count` as text: what the encoder's modules and the heads have, then `table`; long names stand at the end.

    How many parameters learn is told where some do not.
    """
    lines = []
    for what in ("module", "head"):
        part = counts[counts["what"] == what]
        each = " + ".join(f"{number:,}" for number in part["parameters"])
        names = " to ".join(part["name"].iloc[[0, -1]]) if what == "module" else ", ".join(part["name"])
        learn = f", of which {part['learning'].sum():,} learn" if _frozen(part) else ""
        lines.append(f"{counts['problem'].iloc[0]}, {what}s {names}: {each} = {part['parameters'].sum():,} parameters"
                     f"{learn}")
    rows = table(counts)
    titles, columns = ["parameters", "printed (M)", "difference", "MFLOPs"], "{:>13}  {:>15}  {:>12}  {:>11}"
    if _frozen(rows):
        titles, columns = [*titles, "learning"], columns + "  {:>13}"
    columns += "  {:24}  {}"
    lines.append(columns.format(*titles, "method", "explanation"))
    for row in rows.itertuples():
        numbers = [_text("{:,}", row.parameters), row.printed, _text("{:+.2f}", row.difference),
                   _text("{:,.1f}", row.flops / 1e6), _text("{:,}", row.learning)][: len(titles)]
        lines.append(columns.format(*numbers, row.method, row.explanation).rstrip())
    return "\n".join(lines)


def _frozen(rows: pd.DataFrame) -> bool:
    """Whether some parameters do not learn."""
    return bool((rows["learning"] < rows["parameters"]).any())


def _text(form: str, value: Any) -> str:
    return "" if pd.isna(value) else printed(form, value)
