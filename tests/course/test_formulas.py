"""Formulas of docstrings: what is drawn is right, what is code stays code, and the reference has its formulas drawn."""

import inspect
import re

import pytest

from mtlcourse.course.book import examples, reference
from mtlcourse.course.book.formulas import formula, lines
from mtlcourse.course.book.mathml import mathml

DRAWN = re.compile(r"\{math\}`([^`]+)`|```\{math\}\n(.+)\n```")
FORMULAS = {
    "g_t": "g_{t}",
    "x_(t+1) <- x_t - eta d": r"x_{t + 1} \leftarrow x_{t} - \eta d",
    "d = g0 + sqrt(phi) / |g_w| g_w":
        r"d = g_{0} + \dfrac{\sqrt{\phi}}{\left| g_{w} \right|} g_{w}",
    "max_d min_t g_t . d": r"\max_{d} \min_{t} g_{t} \cdot d",
    "phi = c^2 |g0|^2": r"\phi = c^{2} \left| g_{0} \right|^{2}",
    "sum_t | w_t |g_t| - Gbar r_t^alpha |":
        r"\sum_{t} \left| w_{t} \left| g_{t} \right| - \bar{G} r_{t}^{\alpha} \right|",
    "v = argmin v^T K^-1 v": r"v = \operatorname{argmin} v^{\top} K^{-1} v",
    "z_t' = y'_ti != h'(x)": r"z_{t}^{\prime} = y_{ti}^{\prime} \neq h^{\prime}\left( x \right)",
    "w*(u) = argmin_w L(w, u)": r"w^{*}\left( u \right) = \operatorname{argmin}_{w} L\left( w, u \right)",
    "-z_y + log sum_c exp(z_c)": r"-z_{y} + \log\, \sum_{c}\, \exp\left( z_{c} \right)",
    "sum_t e^(-v_t) / 2": r"\sum_{t} \dfrac{e^{-v_{t}}}{2}",
    "eta = 100/m sum_j [Delta_tj >= 0]":
        r"\eta = \dfrac{100}{m} \sum_{j} \left[ \Delta_{tj} \geq 0 \right]",
    "|row j of W|_2": r"\left| \mathrm{row}\  j\  \mathrm{of}\  W \right|_{2}",
    "L_t <= L_t^STL": r"L_{t} \leq L_{t}^{\mathrm{STL}}",
    "sum_{i<j} <a_i, a_j> * K": r"\sum_{i < j} \left\langle a_{i}, a_{j} \right\rangle \cdot K",
    "N(0, C_rows x C_tasks) ~ z": r"N\left( 0, C_{\mathrm{rows}} \otimes C_{\mathrm{tasks}} \right) \sim z",
    "1 - p.t / (|p| |t|)": r"1 - \dfrac{p \cdot t}{\left| p \right| \left| t \right|}",
}
# A fraction only where one reading is possible and what is around it need not grow; else the slash as it was typed.
SLASHES = {
    "a / b c": "a / b c",
    "n^T b / b^T C b": r"n^{\top} b / b^{\top} C b",
    "r_t / sum_s r_s": r"r_{t} / \sum_{s} r_{s}",
    "max_s |y_s| / |y_t| y_t": r"\max_{s} \left| y_{s} \right| / \left| y_{t} \right| y_{t}",
    "sup over h of h_t / m": r"\sup\  \mathrm{over}\  h\  \mathrm{of}\  h_{t} / m",
    "exp(z / T)": r"\exp\left( z / T \right)",
    "c^(-1/alpha)": r"c^{-1 / \alpha}",
    "sqrt(n / 2)": r"\sqrt{n / 2}",
}
CODE = [
    "w", "phi", "batch", "n m", "2 eps", "(m, n)", "(L_1, L_2)", "(batch, ...)", "(n,)", "{task: w_t}", "[1]",  # shapes
    "batch_size", "p_family", "lr_of", "warm_up", "w_t_s", "beta_k_power", "chunk_f1", "_x", "x_",  # names
    "fit(at=1)", "xi=0", "f(a=1)", "alpha = 0.5, beta = 1", "a == b", "i += 1", "takes = torch.long",  # statements
    "loss(z)", "step(x_t)", "len()", "look(x) -> Seen", "L(batch) -> scalar", "STL_t(x)", "heads_cost(omega, B) + 1",
    "a.b", "x.T + y.T", "model.exits", ".grad", "W[:, t]", "picks[i] + 1", "coefficients[k] z^k", "**k", "*args",
    "a/b", "runs/x_t", "task/metric", "hps+ew", "thesis-5.2", "1 / SHORTEST", "--all", "-W", '"a" + b', "str | None",
    "last < first", "epochs >= 1", "net - 1", "batch / size", "model + 1",  # arguments, and nothing of mathematics
    "a / b / c", "A x B", "a -b", "x^T_i", "2^x_i", "max - min", "|a", "f(x", "a +", "+ a", "(-1)^", "sqrt", "w^^2", "",
]


@pytest.mark.parametrize("text", FORMULAS | SLASHES)
def test_a_formula_is_drawn_as_it_is_meant(text):
    assert formula(text) == (FORMULAS | SLASHES)[text]


@pytest.mark.parametrize("text", CODE)
def test_what_may_be_code_stays_code(text):
    assert formula(text) is None
    assert reference.escaped(f"Of `{text}`.") == f"Of `{text}`."


def test_a_block_is_drawn_if_all_of_it_is_a_formula():
    assert lines("    a = s^2(d_s.) / R,   b = Var*(mean_s\n    d_s)\n") == [
        r"a = \dfrac{s^{2}\left( d_{s\cdot} \right)}{R}",
        r"b = \operatorname{Var}^{*}\left( \operatorname{mean}_{s} d_{s} \right)"]
    assert lines("    a = b + c,   step.update()") == lines("    for t in tasks:") == []
    assert reference.markdown("As here:\n\n    a = b,   c = d\n\n    net()\n\n>>> a = b") == (
        "As here:\n\n```{math}\na = b\n```\n\n```{math}\nc = d\n```\n\n```text\nnet()\n\n>>> a = b\n```")


def test_a_formula_goes_on_in_the_next_line():
    assert reference.markdown("Takes `g_t -\nh_t` and\n`code_of(\n  it)`.") == (
        "Takes {math}`g_{t} - h_{t}` and\n`code_of( it)`.")


def test_public_names_are_code():
    assert formula("delta_i") and reference.escaped("As for `delta_i`.") == "As for `delta_i`."


def test_the_reference_has_its_formulas_drawn():
    drawn = [one or two for part in reference.PARTS
             for one, two in DRAWN.findall(reference.page(part, examples.Examples()))]
    for latex in drawn:
        mathml(latex)
    assert len(drawn) > 250
    words = {word for latex in drawn for word in re.findall(r"mathrm\{(\w+)\}", latex)}
    public = {name for part in reference.PARTS for name in reference.public(part)}
    assert words & public <= {"STL", "connectivity", "size"}  # read: these are what they name, and no calls


@pytest.mark.parametrize("part", ["strategies", "losses"])
def test_whoever_has_a_formula_has_one_drawn(part):
    found = 0
    for name, thing in reference.public(part).items():
        spans = re.findall(r"`([^`]+)`", inspect.getdoc(thing) or "")
        meant = [span for span in spans
                 if re.search(r"\w_\w\b|\^|\||\w \. \w| / ", span) and not re.search(r'["{]', span)]
        found += bool(meant)
        assert not meant or DRAWN.search(reference.markdown(inspect.getdoc(thing))), f"{name}: {meant}"
    assert found >= {"strategies": 30, "losses": 2}[part]
