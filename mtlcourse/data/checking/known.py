"""What is known of published sets and cannot be seen in their numbers.

Imports `tasks`, its folder's `report`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ...tasks import Problem
from .report import Finding

# By problem: (task, what is known).
KNOWN: dict[str, list[tuple[str, str]]] = {
    "cityscapes": [
        ("depth", "What this set calls depth is a disparity, an inverse depth: its error is in no metres. Zooming by s "
                  "multiplies it by s; public loaders disagree, and one divides."),
    ],
    "nyuv2": [
        ("", "The published validation images are the test split of the papers, and the code that measures mIoU "
             "changed in 2020: older numbers are not comparable."),
    ],
    "pascal_context": [
        ("saliency", "Distilled from another net: what is measured is agreement with that net."),
        ("normals", "Distilled from another net, stored in eight bits and not of length one."),
    ],
    "taskonomy": [
        ("segmentation", "Labelled by a net, not by people: what is measured is agreement with that net."),
    ],
    "office31": [("", "Some labels are known to be wrong.")],
    "office_home": [("", "Two orders of its classes are in use: lists of others may number them otherwise.")],
}


def about(name: str, options: Mapping[str, Any], problem: Problem) -> Iterator[Finding]:
    """What is known of the set that a problem is made of, by the problem's name, or by the collection it has chosen."""
    sets = {name, str(options.get("collection", "")), *(
        str(split.about.get("set", "")) for split in (problem.train, problem.val, problem.test)
        if isinstance(getattr(split, "about", None), Mapping))}
    tasks = {"", *(task.name for task in problem.tasks)}
    for each in sorted(sets & set(KNOWN)):
        for task, says in KNOWN[each]:
            if task in tasks:
                yield Finding("note", "known", says, "", task)
