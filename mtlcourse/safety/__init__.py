"""Is multi-task learning (MTL) safe here? Measures, definitions, and the report on your own runs.

"Safe" always means: measured against single-task learning (STL), one model per task.

    safety.report({"hps": runs}, baseline=stl_runs)         # runs as `methods.run` returns them
    safety.report(runs.table("runs"), baseline="stl")       # or a table of stored ones
    safety.certify(model, stl, problem)                     # is this one network safe, exactly: by its test samples
    safety.certify_method(runs, stl_runs, problem)          # and the method: seeds and samples together
"""

from .certificates import Certificate, certificate_of, certify
from .crossed import certify_method
from .decision import Decision
from .measures import (
    EmpiricalSafety,
    delta_i,
    empirically_safe,
    negative_sharing,
    relative_change,
    safeness_coefficient,
)
from .paired import half_width
from .report import SafetyReport, report
from .tally import Tally, tally

__all__ = [
    "Certificate", "Decision", "EmpiricalSafety", "SafetyReport", "Tally", "certificate_of", "certify",
    "certify_method", "delta_i", "empirically_safe", "half_width", "negative_sharing", "relative_change", "report",
    "safeness_coefficient", "tally",
]
