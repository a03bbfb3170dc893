"""What a stored output means depends on its cell's kind."""

from typing import Any

import pandas as pd
import pytest
from nbformat import v4

from mtlcourse.course import outputs

SAID = "dsmtl-al  miou 0.2542\nhps       miou 0.2410\n"


def cell(text: str, *tags: str, count: int | None = 3, **metadata: float) -> dict[str, Any]:
    return {"cell_type": "code", "source": "show()\n", "execution_count": count,
            "metadata": {"tags": list(tags), "mtlcourse": metadata}, "outputs": [stream(text)]}


def stream(text: str) -> dict[str, Any]:
    return v4.new_output("stream", name="stdout", text=text)


def about(text: str) -> dict[str, Any]:
    return cell(text, "about", absolute=0.01)


FAULTS = {
    "a changed word": SAID.replace("hps", "stl"),
    "a swapped ranking": "\n".join(reversed(SAID.splitlines())) + "\n",
    "a number outside its tolerance": SAID.replace("0.2542", "0.2643"),
    "a missing number": SAID.replace("0.2542", ""),
    "one number more": SAID.replace("0.2542", "0.2542 0.2542"),
    "a line less": SAID.splitlines()[0] + "\n",
    "a line more": SAID + "hps       miou 0.2410\n",
    "nothing": "",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("stored", [cell(SAID), about(SAID)], ids=["exact", "about"])
def test_a_fault_is_found(stored: dict[str, Any], fault: str):
    assert outputs.change(stored, cell(FAULTS[fault]), str)


def test_a_number_that_moved_within_its_tolerance_is_none():
    moved = cell(SAID.replace("0.2542", "0.2597").replace("0.2410", "0.2320"))
    assert not outputs.change(about(SAID), moved, str)
    assert outputs.change(cell(SAID), moved, str)


def test_what_is_free_or_was_never_run_promises_nothing():
    assert not outputs.change(cell(SAID, "free"), cell("other\n"), str)
    assert not outputs.change(cell(SAID, count=None), cell("other\n"), str)


def test_only_the_lines_that_differ_are_shown_and_how_far_they_may_move():
    said = cell(SAID.replace("0.2542", "0.2597").replace("0.2410", "0.3410"))
    assert outputs.change(about(SAID), said, str) == (
        "-hps       miou 0.2410\n+hps       miou 0.3410\n(numbers may move by 0.01 absolute)")
    assert outputs.change(cell("a\n-0.0\n1\n"), cell("a\n0.0\n2\n"), str) == "-1\n+2"


def table(value: float, name: str = "hps") -> dict[str, Any]:
    frame = pd.DataFrame({"method": ["stl", name], "miou": [0.25, value]})
    return {"outputs": [v4.new_output("execute_result", {
        "text/plain": repr(frame), "text/html": frame._repr_html_(), "image/png": str(value)})]}


def test_tables_are_compared_as_text_and_as_html_and_pictures_are_not():
    stored = {**about(""), **table(0.25)}
    assert not outputs.change(stored, table(0.2597), str)
    for other in (table(0.2603), table(0.25, "hpt")):
        changed = outputs.change(stored, other, str)
        assert changed.count("<td>") == 2 and len(changed.splitlines()) == 5  # one line of HTML, one of text
    without = table(0.25)
    del without["outputs"][0]["data"]["text/html"]
    assert outputs.change(stored, without, str)


def test_errors_and_warnings_are_outputs():
    said = {"outputs": [stream(SAID), v4.new_output("stream", name="stderr", text="careful")]}
    assert outputs.change(about(SAID), said, str) == "+careful\n(numbers may move by 0.01 absolute)"
    error = {"outputs": [v4.new_output("error", ename="KeyError", evalue="x", traceback=["at 0x1"])]}
    assert outputs.change(cell(""), error, str) == "+KeyError: x"


def test_notebooks_are_compared_cell_by_cell():
    stored = {"metadata": {}, "cells": [cell(SAID), about(SAID), cell(SAID, "free")]}
    said = {"metadata": {}, "cells": [{**one, "outputs": [stream("other\n")]} for one in stored["cells"]]}
    assert [found.line for found in outputs.differences(stored, said, str)] == ["show()", "show()"]
    assert not outputs.differences(stored, stored, str)
    with pytest.raises(ValueError, match="other cells"):
        outputs.differences(stored, {"metadata": {}, "cells": []}, str)
