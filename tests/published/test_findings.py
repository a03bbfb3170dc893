"""Every finding about the published tables, reproduced; and the claims about them that were checked and hold."""

import pytest

from mtlcourse import published
from mtlcourse.published import between, claims, counted, inside, sizes
from mtlcourse.published.table import load


def where(findings):
    return {(f.row, f.column): f for f in findings}


def bounds(finding):
    return tuple(map(float, finding.follows.strip("[]").split(",")))


def pair(first, other):
    return where(between.other_baseline(load(first), load(other)))


def test_nothing_to_report_in_tables_that_follow():
    clean = ["dsmtl-1", "dsmtl-5", "dsmtl-6", "dsmtl-7", "thesis-5.2", "thesis-5.3", "thesis-5.4", "thesis-5.5",
             "thesis-5.8", "thesis-5.9", "thesis-5.11", "thesis-6.1"]
    assert all(published.audit(name) == [] for name in clean)


def test_nyuv2_one_baseline_cell_lost_a_digit():
    found = published.audit("dsmtl-2")
    cause, *rows = found
    assert (cause.row, cause.column, cause.printed) == ("STL", "segmentation/pixel error ↓", "4.80")
    assert cause.verdict == "misprint"
    assert bounds(cause) == pytest.approx((24.19, 25.54), abs=0.01)
    assert len(rows) == 13 and {f.column for f in rows} == {"delta_i"} and {f.verdict for f in rows} == {"misprint"}
    # The thesis prints the same models against another baseline: 24.80 is what all of its rows say.
    second = pair("dsmtl-2", "thesis-5.3")["STL", "segmentation/pixel error ↓"]
    assert bounds(second) == (24.775, 24.825) and "24.80" in second.says
    table = load("dsmtl-2")
    repaired = table.cells.copy()
    repaired.loc["STL", "segmentation/pixel error ↓"] = "24.80"
    assert published.audit(repaired, sign="improvement") == []


def test_pascal_context_three_etas_one_delta_i_and_a_median_that_is_none():
    found = where(published.audit("dsmtl-3"))
    assert set(found) == {("DSMTL-AL", "delta_i"), ("BMTAS", "eta"), ("TSN", "eta"), ("LTB", "eta"),
                          ("STL", "normals/median angle ↓")}
    assert [found[row, "eta"].follows for row in ("BMTAS", "TSN", "LTB")] == ["[25, 25]", "[37.5, 37.5]", "[50, 50]"]
    verdicts = [found[row, "eta"].verdict for row in ("BMTAS", "TSN", "LTB")]
    assert verdicts == ["misprint", "different definition", "misprint"]
    assert found["DSMTL-AL", "delta_i"].verdict == "unexplained"
    assert bounds(found["DSMTL-AL", "delta_i"]) == pytest.approx((0.00996, 0.01015), abs=1e-5)
    median = found["STL", "normals/median angle ↓"]
    assert (median.printed, median.follows, median.verdict) == ("24.87", "below 22.5", "different definition")
    assert "all rows" in median.says


def test_the_median_of_one_document_is_the_rmse_of_the_other():
    ours, theirs = load("dsmtl-3"), load("thesis-5.9")
    same = set(theirs.methods) & set(ours.methods) - {"HPS"}  # hard sharing is another run there
    for row in same:
        assert ours.value(row, ours.columns[5]).meets(theirs.value(row, theirs.columns[5]))
    assert (ours.columns[5].metric, theirs.columns[5].metric) == ("median angle", "RMSE angle")


def test_taskonomy_delta_i_follows_in_no_table_and_nothing_repairs_it():
    found = where(published.audit("dsmtl-4"))
    table = load("dsmtl-4")
    assert {row for row, column in found if column == "delta_i"} == set(table.methods) - {"HPS"}
    assert {f.verdict for f in found.values()} == {"unexplained"}
    assert "no single cell of STL and no single arrow" in found["MTAN", "delta_i"].says
    assert "normals 0.51-0.57" in found["MTAN", "delta_i"].says
    assert bounds(found["AFA", "delta_i"]) == pytest.approx((0.1430, 0.1470), abs=1e-4)
    assert any("better is AFA" in f.says for f in inside.best(table))
    chapter5 = where(published.audit("thesis-5.10"))
    assert {row for row, _ in chapter5} == set(load("thesis-5.10").methods)
    assert "nor does a mean with unequal task weights" in chapter5["LTB", "delta_i"].says
    finding, = inside.best(load("thesis-5.10"))
    assert finding.row == "CoNAL" and "AFA" in finding.says
    assert "LTB" not in finding.says  # its middle is better, but the digits leave it open


def test_the_second_print_is_the_same_cell_for_cell():
    cells = 0
    for name in published.names():
        again = load(name).about.get("again")
        if again:
            assert between.second_print(load(name), load(again)) == []
            cells += load(name).cells.size
    assert cells == 837
    changed = load("thesis-6.1").cells.copy()
    changed.loc["HPS", "eta"] = "52"
    finding, = between.second_print(load("dsmtl-1"), published.read(changed, sign="improvement"))
    assert (finding.row, finding.printed, finding.follows) == ("HPS", "52", "25")


def test_the_same_models_have_the_same_values_in_both_documents():
    # All cells of rows that both print, without the rows and the column that are findings.
    agree = 0
    for first, other in between.SAME_RUNS:
        ours, theirs = load(first), load(other)
        odd = {f.row for f in between.other_baseline(ours, theirs) if f.column == "all metrics"}
        for row in set(ours.methods) & set(theirs.methods) - odd:
            for mine, their in zip(ours.columns, theirs.columns, strict=True):
                agree += between._value(theirs, row, their, mine).meets(ours.value(row, mine))
    assert agree == 44 + 80 + 47 + 66


def test_rows_and_cells_that_disagree_between_the_documents():
    nyu, pascal = pair("dsmtl-2", "thesis-5.3"), pair("dsmtl-3", "thesis-5.9")
    assert nyu["TSN", "all metrics"].verdict == pascal["HPS", "all metrics"].verdict == "unexplained"
    size = pascal["HPS", "parameters"]
    assert (size.printed, size.follows, size.verdict) == ("34.79", "30.07", "misprint")
    assert load("dsmtl-4").text("HPS", "parameters") == "34.79"  # the number of another data set
    shifted = [row for row, column in pascal if column == "normals/mean angle ↓" and row != "STL"]
    assert shifted == ["NDDR-CNN", "AFA", "TSN", "BMTAS"]
    reasons = {pascal[row, "normals/mean angle ↓"].says for row in shifted}
    assert reasons == {"its value is [0.09, 0.13] above the one in dsmtl-3"}


def test_afa_on_pascal_context_owes_its_place_to_three_signs():
    found = pair("dsmtl-3", "thesis-5.9")
    signs = {column: f for (row, column), f in found.items() if row == "AFA" and "within" in column}
    assert {f.printed for f in signs.values()} == {"+6.54", "+4.92", "+3.10"}
    assert {f.verdict for f in signs.values()} == {"misprint"} and all(bounds(f)[1] < -2 for f in signs.values())
    delta = found["AFA", "delta_i"]
    assert delta.printed == "+1.1272" and bounds(delta) == pytest.approx((-0.950, -0.926), abs=1e-3)


def test_the_baseline_decides_who_is_safe():
    flipped = {}
    for first, other in between.SAME_RUNS:
        etas = {row: f for (row, column), f in pair(first, other).items() if column == "eta"}
        assert {f.follows for f in etas.values()} <= {"[100, 100]"}
        flipped[first] = {row: f.printed for row, f in etas.items()}
    assert flipped == {
        "dsmtl-1": {"Cross-stitch": "[50, 50]", "MTAN": "[75, 75]", "NDDR-CNN": "[25, 25]", "RotoGrad": "[75, 75]",
                    "TSN": "[75, 75]"},
        "dsmtl-2": {}, "dsmtl-3": {}, "dsmtl-4": {"LTB": "[80, 80]"},
    }


def test_single_task_rows_differ_between_the_documents():
    counts = {}
    for first, other in between.SAME_RUNS:
        rows = [f for f in between.other_baseline(load(first), load(other)) if f.table == other and f.row == "STL"]
        assert {f.verdict for f in rows} <= {"different definition"}
        counts[other] = len(rows)
    assert counts == {"thesis-5.2": 4, "thesis-5.3": 7, "thesis-5.9": 9, "thesis-5.10": 11}


def test_rows_of_several_tables():
    found = {(f.table, f.row, f.column): (f.printed, f.follows) for f in between.repeated_rows()}
    assert found == {("dsmtl-7", "DSMTL-AL+ew", "eta"): ("100", "80"),
                     ("thesis-5.11", "CoNAL", "parameters"): ("93.94", "93.96")}


def test_parameter_counts_among_themselves():
    for name in ("dsmtl-1", "dsmtl-2", "dsmtl-3", "dsmtl-4"):
        assert sizes.within(load(name)) == []
        changed = load(name).cells.copy()
        changed.loc["HPS", "parameters"] = "40.00"
        finding, = sizes.within(published.read(changed, sign="improvement"))
        assert (finding.row, finding.verdict) == ("HPS", "unexplained")


def test_parameter_counts_against_the_architectures():
    found = {(f.table, f.row): (f.printed, float(f.follows), f.verdict)
             for f in sizes.against_counts() if f.follows != "none"}
    searched = {key: value for key, value in found.items() if key[1][:5] in ("DSMTL", "CoNAL")}
    assert {key: value for key, value in found.items() if key not in searched and key[1] not in ("AFA", "TSN")} == {
        ("dsmtl-2", "STL"): ("118.91", 118.9048, "rounding"),
        ("dsmtl-3", "Cross-stitch"): ("79.46", 63.5744, "misprint"),
        ("dsmtl-3", "MTAN"): ("36.61", 31.6273, "misprint"),
        ("dsmtl-3", "RotoGrad"): ("33.22", 31.1220, "unexplained"),
        ("thesis-5.9", "HPS"): ("34.79", 30.0734, "misprint"),
        ("dsmtl-4", "RotoGrad"): ("37.94", 36.1040, "unexplained"),
    }
    assert {key: (printed, verdict) for key, (printed, _, verdict) in searched.items()} == {
        ("dsmtl-1", "DSMTL-AL"): ("79.04", "misprint"), ("dsmtl-2", "DSMTL-AL"): ("93.96", "rounding"),
        ("dsmtl-3", "DSMTL-AL"): ("63.15", "unexplained"), ("dsmtl-4", "DSMTL-AL"): ("54.36", "misprint"),
        ("thesis-5.3", "CoNAL"): ("93.96", "rounding"), ("thesis-5.9", "CoNAL"): ("63.15", "unexplained"),
        ("thesis-5.10", "CoNAL"): ("54.36", "misprint"), ("thesis-5.11", "CoNAL"): ("93.94", "unexplained"),
        ("thesis-5.5", "CoNAL w/o random loss weighting"): ("93.96", "rounding"),
    }
    no_tree = [(f.table, f.row) for f in sizes.against_counts() if f.follows == "none"]
    assert no_tree == [("dsmtl-2", "BMTAS"), ("dsmtl-3", "BMTAS"), ("thesis-5.8", "CoNAL"), ("thesis-5.8", "CoNAL-Pro")]


def test_why_counts_are_off():
    says = {(f.table, f.row): f.says for f in sizes.against_counts()}
    assert says["dsmtl-2", "STL"] == "off by 215 parameters; one channel more in a decoder has 257"
    assert says["dsmtl-3", "Cross-stitch"] == "it is the number of dsmtl-4, where it follows"
    assert "printed is the number of BMTAS in the same table" in says["dsmtl-1", "DSMTL-AL"]
    assert says["dsmtl-3", "DSMTL-AL"].endswith("no other branch points give it")
    assert says["dsmtl-4", "DSMTL-AL"].endswith("it follows with keypoints leaving at 5")
    for table, tasks in (("dsmtl-3", 4), ("dsmtl-4", 5)):  # NYUv2, with three tasks, has three such matrices
        assert says[table, "RotoGrad"].startswith("it is hard sharing with 3 matrices of 1024 x 1024, but")
        assert f"there are {tasks} tasks" in says[table, "RotoGrad"]
    # By hand: 50.58 M less 23.508 M and 16.129 M is 10.94 M, and so is 26.85 M less 11.177 M and 4.727 M.
    assert "leave [10.9419, 10.9482] M, with either backbone" in says["dsmtl-1", "TSN"] == says["dsmtl-4", "TSN"]


def test_the_larger_models_of_the_thesis_have_more_blocks_than_said():
    found = {f.row: f for f in sizes.added_blocks()}
    block = 1024 * 256 + 9 * 256 * 256 + 256 * 1024 + 2 * (256 + 256 + 1024)  # a bottleneck of layer 3 of ResNet-50
    assert float(found["HPS+"].follows) == pytest.approx((71_888_721 + 3 * block) / 1e6, abs=1e-4)
    for row, blocks, base in (("HPS+", 20, 71_888_721), ("CoNAL+", 22, 93_951_825)):
        assert f"{(base + blocks * block) / 1e6:.2f}" == found[row].printed
        assert found[row].says.startswith(f"{blocks} blocks of the fourth module")


def test_trees_have_the_sizes_that_their_branch_points_give():
    modules = counted.parameters("pascal_context", "module").values()
    stem, one, two, three, four = modules
    heads = sum(counted.parameters("pascal_context", "head").values())
    private = (three + four) + (stem + one + two + three + four) + (one + two + three + four)
    counts = counted.parameters("pascal_context")
    name = counted.method_of("pascal_context", "DSMTL-AL")
    assert name == ("tree(gate='projected', points={'segmentation': 6, 'human_parts': 2, 'saliency': 1, "
                    "'normals': 4})")
    assert counts[name] == heads + sum(modules) + private + 3  # gates
    sizes_of_trees = set(sizes._trees("pascal_context"))
    assert {counts["hps"], counts["stl"], counts[name] - 3} <= sizes_of_trees
    assert counts["hps"] + stem not in sizes_of_trees  # two stems and one of all that comes after


def test_rows_that_count_an_architecture_are_compared():
    searched = {"BMTAS", "LTB", "MTL-NAS", "TAG-2", "CoNAL", "CoNAL-Pro"}
    larger = {"HPS+", "CoNAL+", "CoNAL w/o conflict-notice", "CoNAL w/o module splitting"}
    for problem in counted.TABLES:
        for table, row in counted.cells(problem):
            known = counted.method_of(problem, row) in counted.parameters(problem)
            elsewhere = row in searched | larger and counted.branch_points(problem, row) is None
            assert known != elsewhere, (table.name, row)


def test_sentences_that_do_not_hold():
    ratio, mtan = claims.check()
    assert ratio.verdict == "rounding" and 2.669 < bounds(ratio)[0] < bounds(ratio)[1] < 2.671
    assert (mtan.table, mtan.row, mtan.printed) == ("thesis-5.2", "MTAN", "+0.0003")


def test_sentences_that_hold():
    def safe(name):
        return {row for row in load(name).methods if published.eta(load(name), row).low == 100}

    ours = {"DSMTL-IL", "DSMTL-JL", "DSMTL-AL"}
    assert safe("dsmtl-2") == safe("dsmtl-3") == ours
    assert safe("dsmtl-1") == ours | {"Cross-stitch", "MTAN", "NDDR-CNN", "RotoGrad", "BMTAS", "TSN"}
    assert safe("dsmtl-4") == ours | {"Cross-stitch", "LTB"}
    assert all("CoNAL" in safe(name) for name in ("thesis-5.2", "thesis-5.3", "thesis-5.9", "thesis-5.10"))
    for name in ("dsmtl-2", "dsmtl-3", "dsmtl-4"):
        assert published.delta_i(load(name), "DSMTL-JL").low > published.delta_i(load(name), "DSMTL-IL").high
    taskonomy = load("dsmtl-4")
    for header in ("keypoints/absolute error ↓", "edges/absolute error ↓"):
        assert max(taskonomy.methods, key=lambda row: taskonomy.number(row, header).low) == "AFA"
    for name, tasks in {"cityscapes": 2, "nyuv2": 3, "pascal-context": 4, "taskonomy": 5}.items():
        table = load("dsmtl-5")
        headers = [header for header in table.cells.columns if header.startswith(name)]
        weights = published.intervals.total(table.number("DSMTL-AL loss weight", header) for header in headers)
        assert len(headers) == tasks and weights.low <= 1 <= weights.high
        points = [table.text("DSMTL-AL branch point", header) for header in headers]
        assert "6" in points  # someone uses the whole public encoder ...
        for header, point in zip(headers, points, strict=True):
            assert (table.text("DSMTL-AL", header) is None) == (point == "6")  # ... and needs no gate


def test_every_eta_of_the_summary_tables_is_one_that_nyuv2_can_have():
    # Two, two and five metrics: eta = 100/3 (i/2 + j/2 + k/5).
    possible = [published.Interval.exactly(10 * (5 * i + 5 * j + 2 * k)) / 3
                for i in range(3) for j in range(3) for k in range(6)]
    for name in ("dsmtl-6", "dsmtl-7"):
        table = load(name)
        assert all(any(table.number(row, "eta").meets(eta) for eta in possible) for row in table.cells.index)
    assert not any(published.printed("71").meets(eta) for eta in possible)


def test_the_report_says_it_all():
    text, found = published.report(), published.all_findings()
    for finding in found:
        assert f"| {finding.table} | {finding.row} | {finding.column} | {finding.printed} |" in text
    for verdict, meaning in published.VERDICTS.items():
        assert f"- {verdict} ({sum(f.verdict == verdict for f in found)}): {meaning}" in text
    for name in published.names():
        assert name in text
    assert "headed SE" in text and "nan" not in text.lower().split()
