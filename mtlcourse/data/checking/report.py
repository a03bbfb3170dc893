"""What the data doctor says: findings, each with its consequence, and the report that holds them.

Imports nothing of the project.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

SEVERITIES = ("error", "warning", "note")
KINDS: dict[str, str] = {
    "unreadable": "samples that cannot be read, or that are not of the tasks: labels outside, targets of another shape",
    "sizes": "inputs of several sizes, or of another than the problem says",
    "not-finite": "NaN or infinity in inputs, infinity in targets",
    "not-scaled": "inputs far from unit scale",
    "unequal-channels": "a channel of inputs that drowns the others",
    "constant-channel": "a channel of inputs that never moves in training",
    "shifted-inputs": "inputs that are scaled otherwise than those of training",
    "augmented": "samples that change from one reading to the next",
    "flipped-normals": "images that are mirrored while their normals are not",
    "unseen-class": "a class that is tested and never trained",
    "empty-class": "a class without any sample",
    "class-names": "names of classes that are wrong in number, or name one class twice",
    "few-labels": "a task with hardly a label in a split",
    "void": "a task of which most is without label",
    "never-together": "two tasks that no sample has both",
    "constant-target": "a target that never varies",
    "majority": "a class that is right most of the time, whatever is shown",
    "label-shift": "targets that are distributed otherwise than those of training",
    "flat-maps": "images in which all pixels have one class",
    "unequal-losses": "losses of very different size, which decide who gets the step",
    "same-task": "two tasks with the same targets, up to names or an affine map",
    "determined": "a task whose answer follows from another's",
    "test-in-train": "test samples that stand in training",
    "val-in-train": "validation samples that stand in training",
    "val-is-test": "validation samples that are test samples",
    "contradictory": "the same input twice in training, with different labels",
    "duplicates": "the same input several times in training",
    "look-alike": "test images that are nearly images of training",
    "zero-depth": "a depth of zero, which stands for unknown in most sets",
    "zero-normals": "normals of length zero, which stand for unknown",
    "not-unit": "normals that are not of length one",
    "spike": "very many targets at exactly the largest value: a code for void, or clipped",
    "coarse": "dense targets with no more than 256 different values: squeezed into 8 bits",
    "disparity": "a depth that behaves as a disparity",
    "distilled": "targets that look like the output of a model, not of a sensor or a person",
    "last-batch": "a last batch of a single sample",
    "same-images": "images that stand in two domains",
    "transductive": "target images that are both trained on, without labels, and judged by",
    "known": "what is known of a published set and cannot be seen in its numbers",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    severity: "error" (what is measured on these data does not mean what it seems to), "warning" (likely to hurt:
        decide), "note" (know this when you read results).
    kind: one of `KINDS`.  says: what was seen and what follows from it.
    split, task: where, "" for all.  samples: numbers of the first few samples in that split.
    """

    severity: str
    kind: str
    says: str
    split: str = ""
    task: str = ""
    samples: tuple[int, ...] = ()

    def __str__(self) -> str:
        return _printed(self, [self.task])


@dataclass
class Report:
    """What `data.check` found in a problem.

    findings: errors first, then warnings, then notes.
    read: `{split: (samples read, samples there)}`.
    labelled: `{split: {task: share of the samples read that have a label of it}}`.
    """

    problem: str
    findings: list[Finding]
    read: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    labelled: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self):
        self.findings = sorted(self.findings, key=lambda finding: SEVERITIES.index(finding.severity))

    @property
    def errors(self) -> list[Finding]:
        """The findings of severity "error"."""
        return [finding for finding in self.findings if finding.severity == "error"]

    def of(self, kind: str) -> list[Finding]:
        """The findings of one kind. Raises ValueError for a kind that there is not."""
        if kind not in KINDS:
            raise ValueError(f"There is no kind {kind!r} of finding; there are {', '.join(KINDS)}.")
        return [finding for finding in self.findings if finding.kind == kind]

    def to_frame(self) -> pd.DataFrame:
        """A row a finding: severity, kind, split, task, samples, says."""
        columns = ["severity", "kind", "split", "task", "samples", "says"]
        return pd.DataFrame([[getattr(finding, column) for column in columns] for finding in self.findings],
                            columns=columns)

    def __str__(self) -> str:
        lines = [f"{self.problem}: {_amount(self.read)}"]
        shares = pd.DataFrame(self.labelled).T
        if len(shares) and bool((shares.fillna(1) < 1).any(axis=None)):
            table = shares.map(lambda share: "" if pd.isna(share) else f"{share:.1%}")
            lines += ["", "Samples that have a label:", table.to_string()]
        lines += ["", *_together(self.findings)] if self.findings else []
        counts = {severity: sum(finding.severity == severity for finding in self.findings) for severity in SEVERITIES}
        said = ", ".join(f"{number} {severity}{'s' * (number != 1)}" for severity, number in counts.items() if number)
        return "\n".join([*lines, "", f"{said}." if said else "Nothing found."])


def _amount(read: Mapping[str, tuple[int, int]]) -> str:
    parts = [f"{seen:,} {split}" if seen == there else f"{seen:,} of {there:,} {split}"
             for split, (seen, there) in read.items()]
    return f"samples read: {', '.join(parts)}" + (
        "; what lies in the others was not seen, copies in particular" if any(a < b for a, b in read.values()) else "")


def _together(findings: Sequence[Finding]) -> list[str]:
    """The findings as text; those that differ in the task only are one."""
    tasks: dict[Finding, list[str]] = {}
    for finding in findings:
        tasks.setdefault(replace(finding, task=""), []).append(finding.task)
    return [_printed(finding, own) for finding, own in tasks.items()]


def _printed(finding: Finding, tasks: list[str]) -> str:
    more = f" and {len(tasks) - 3} more" if len(tasks) > 3 else ""
    of = tasks[0] and f"task{'s' * (len(tasks) > 1)} {', '.join(tasks[:3])}{more}"
    numbers = ", ".join(map(str, finding.samples))
    which = numbers and f"sample{'s' * (len(finding.samples) > 1)} {numbers}"
    where = ", ".join(part for part in (finding.split, of, which) if part)
    return textwrap.fill(f"{finding.severity:8}{finding.kind}{where and f' ({where})'}: {finding.says}", 100,
                         subsequent_indent=" " * 8, break_on_hyphens=False)


def first(samples: Sequence[int] | np.ndarray) -> tuple[int, ...]:
    """The first five of them, plain numbers."""
    return tuple(int(sample) for sample in samples[:5])
