"""What runs in a student's kernel after the student's cells: the judge of one exercise, loaded afresh.

The judge shares a process with the code that it judges, and so can be fooled by code that is written to fool it. It is
made sure that this takes more than a line: modules of the course are loaded anew from where they are installed, so
that changed ones count for nothing; and the same judge must, in the same process, refuse the answer that stands in
the lesson, so that what makes everything right makes nothing right. Imports its neighbours `checks` and `exercises`.
"""

import json
from collections.abc import Callable
from typing import Any

from . import checks
from .exercises import EXERCISES, NotYet, load


def judge(number: str, answer: Callable[[], Any], wrong: str, seal: str) -> None:
    """Print one line: `seal`, and as JSON why the answer is not right, and whether the judge could be believed.

    number: of the exercise.  answer: a function that returns the student's answer, in which a name may be missing.
    wrong: code of the lesson that sets `wrong` to the answer that stands there.  seal: a word that nobody can guess.
    """
    load(number.split(".")[0])
    try:
        said = checks.judge(number, answer())
    except KeyboardInterrupt:  # after a cell's time
        said = "your code did not come to an end in time"
    except BaseException as error:  # also an exit
        said = f"your code raised {type(error).__name__}: {error}"
    believed, scope = False, {"__name__": "__lesson__"}
    try:
        exec(wrong, scope)
        EXERCISES[number](scope["wrong"])
    except NotYet:
        believed = True
    except Exception:
        believed = False
    print(f"\n{seal} {json.dumps({'said': said, 'believed': believed})}")
