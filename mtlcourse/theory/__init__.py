"""What the papers prove: bounds as numbers, Gaussian averages, and every statement with a verdict that can be checked.

    theory.check("mamg-lemma-1")                # 1,000 random instances: how many violate it, and the worst, readable
    theory.STATEMENTS["mamg-lemma-1"].verdict   # ours, with a counter-example where there is one
"""

from .bounds import Bound
from .statements import STATEMENTS, VERDICTS, Checked, CounterExample, Form, Statement, check, table

__all__ = ["Bound", "Checked", "CounterExample", "Form", "STATEMENTS", "Statement", "VERDICTS", "check", "table"]
