"""The stored parameter counts of the architectures, and which of them a printed row is about.

Imports `table`. `mtlcourse params` made `counts.csv`, beside this file: building the models of these problems needs
torchvision, so what the audit needs of them is kept.
"""

from functools import cache
from importlib.resources import files

import pandas as pd

from .table import PrintedTable, load

COLUMNS = ("problem", "what", "name", "parameters", "learning", "flops", "refused")
TABLES = {  # problem: the tables that print counts for it
    "cityscapes": ("dsmtl-1", "thesis-5.2"),
    "nyuv2": ("dsmtl-2", "thesis-5.3", "thesis-5.5", "thesis-5.11"),
    "pascal_context": ("dsmtl-3", "thesis-5.9"),
    "taskonomy": ("dsmtl-4", "thesis-5.10"),
    "celeba": ("thesis-5.8",),
}
METHODS = {  # row: the method that it counts, with the options under which most printed counts follow
    "STL": "stl", "HPS": "hps", "UW": "hps", "PCGrad": "hps", "CAGrad": "hps",
    "CoNAL w/o conflict-notice and pure": "hps",
    "Cross-stitch": "cross-stitch(channelwise=False, share_first=1)", "MTAN": "mtan(after=[2, 3, 4, 5])",
    "NDDR-CNN": "nddr", "AFA": "afa", "RotoGrad": "rotograd(rotate=1024)", "MaxRoam": "maxroam", "TSN": "tsn",
    "DSMTL-IL": "dsmtl-il", "DSMTL-JL": "dsmtl-jl",
}
# Searches: what they start from is larger than what they find, and found nets are what is printed.
SEARCHES = {"dsmtl-al": "DSMTL-AL", "conal": "CoNAL", "conal-pro": "CoNAL-Pro", "ltb": "LTB", "bmtas": "BMTAS",
            "mtl-nas": "MTL-NAS"}
LAST = 6  # the branch point behind all modules
# Figure 5.4 of the thesis: where tasks leave the shared encoder; who is not named stays to its end.
FIGURE = {
    "cityscapes": {"segmentation": 4, "depth": 4}, "nyuv2": {"normals": 4},
    "pascal_context": {"saliency": 1, "normals": 4}, "taskonomy": {"keypoints": 4, "normals": 1},
}
FIGURE_ROWS = ("CoNAL", "CoNAL w/o random loss weighting")


@cache
def stored() -> pd.DataFrame:
    """The stored counts, in the columns that `counts.count` explains; NA where a method was refused."""
    with (files(__package__) / "counts.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype={"name": str, "parameters": "Int64", "learning": "Int64", "flops": "Int64"})
    return table.assign(refused=table["refused"].fillna(""))


@cache
def parameters(problem: str, what: str = "method") -> dict[str, int]:
    """`{name: parameters}` of a problem's stored methods, or of what = "module" or "head"."""
    rows = stored()
    rows = rows[(rows["problem"] == problem) & (rows["what"] == what) & (rows["refused"] == "")]
    return dict(zip(rows["name"], map(int, rows["parameters"]), strict=True))


def method_of(problem: str, row: str) -> str | None:
    """The method that a row of the problem's tables counts; None for those that are not known or not here."""
    points = branch_points(problem, row)
    if points is None:
        return METHODS.get(row)
    return f"tree(gate='projected', points={points})" if row == "DSMTL-AL" else f"tree(points={points})"


def branch_points(problem: str, row: str) -> dict[str, int] | None:
    """`{task: branch point}` as a table prints them for DSMTL-AL and a figure for CoNAL; None for other rows."""
    if problem not in FIGURE or row not in ("DSMTL-AL", *FIGURE_ROWS):
        return None
    table = load("dsmtl-5")
    columns = {header: header.replace("-", "_").replace(" ", "_").split("/") for header in table.cells.columns}
    learned = {task: int(table.text("DSMTL-AL branch point", header))
               for header, (of, task) in columns.items() if of == problem}
    return learned if row == "DSMTL-AL" else {task: FIGURE[problem].get(task, LAST) for task in learned}


@cache
def cells(problem: str) -> list[tuple[PrintedTable, str]]:
    """The tables and rows that print a count for `problem`, but for second prints of one that was there."""
    found: dict[tuple[str, str], tuple[PrintedTable, str]] = {}
    for table in map(load, TABLES.get(problem, ())):
        for row in table.cells.index:
            if table.text(row, "parameters"):
                found.setdefault((row, table.text(row, "parameters")), (table, row))
    return list(found.values())


def counted_methods(problem: str) -> list[str]:
    """The methods whose counts are printed for `problem`, in printed order."""
    return list(dict.fromkeys(filter(None, (method_of(problem, row) for _, row in cells(problem)))))
