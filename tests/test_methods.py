"""Methods by name: the grammar, what budgets set and what they leave, parameters counted without data."""

import dataclasses
import keyword

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mtlcourse import data, methods, models, strategies, training
from mtlcourse.files import seed_everything
from mtlcourse.grammar import split
from mtlcourse.methods import Part, budget_arguments, canonical, parse, parse_part
from mtlcourse.tasks import TensorSplit
from tests.problems import CELLS, NEEDS_MAPS, OFFLINE, SHALLOW, small


def weights(module):
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


# --- the grammar ---------------------------------------------------------------------------------------

NUMBERS = st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.none() | NUMBERS | st.text(max_size=6)
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=2) | st.tuples(inner, inner)
                      | st.dictionaries(st.text(max_size=2), inner, max_size=2), max_leaves=4)
KEYS = st.from_regex(r"[a-z][a-z_0-9]{0,5}", fullmatch=True).filter(lambda key: not keyword.iskeyword(key))
IDS = st.from_regex(r"[a-z][a-z0-9.:-]{0,8}", fullmatch=True)
PARTS = st.builds(Part, IDS, st.dictionaries(KEYS, VALUES, max_size=3))


@given(PARTS)
def test_a_part_reads_back_as_it_was_written(part):
    assert parse_part(str(part)) == part
    assert str(parse_part(str(part))) == str(part)


@settings(max_examples=50)
@given(st.lists(PARTS, min_size=1, max_size=3))
def test_a_name_is_cut_between_its_parts_only(parts):
    assert split("+".join(map(str, parts))) == [str(part) for part in parts]


@given(st.text(alphabet="hps+ew(T=5,')\" [", max_size=12))
def test_every_text_is_read_or_refused_in_words(text):
    try:
        parts = parse(text)
    except ValueError as error:
        assert str(error)
    else:
        assert "+".join(map(str, parts)) == canonical(text) == canonical(canonical(text))


@pytest.mark.parametrize("text, options", [
    ("m", {}), ("m()", {}), (" m ( ) ", {}), ("m(T=5)", {"T": 5}), ("m( T = -0.5 , on=True)", {"T": -0.5, "on": True}),
    ("m(gate=sigmoid)", {"gate": "sigmoid"}), ("m(gate='sigmoid')", {"gate": "sigmoid"}), ("m(no=None)", {"no": None}),
    ("m(tasks=(('sinc', 1.0), ('bent', 2.0)))", {"tasks": (("sinc", 1.0), ("bent", 2.0))}),
    ("m(text='a+b (c', n=[1])", {"text": "a+b (c", "n": [1]}),
])
def test_options_are_literals_and_bare_words(text, options):
    assert parse_part(text) == Part("m", options)


@pytest.mark.parametrize("text", ["", " ", "m(", "m)", "m(T=5", "m(5)", "m(T)", "m(**T)", "m(T=5, T=6)", "m(T=f(1))",
                                  "m(T=5) n", "m(T=)", "m n", "m(T=1) + g(T=2)", "m(a.b=1)", "m(T=[word])"])
def test_what_cannot_be_read_is_shown_with_the_form(text):
    with pytest.raises(ValueError, match="Cannot read .*(Write them as 'name|A part is a name, or)"):
        parse_part(text)


@pytest.mark.parametrize("spelling", ["hps+bmtl(T=5.0)", " hps + bmtl( T = 5.0 ) ", "hps+bmtl(T=5.,)"])
def test_equal_names_have_one_spelling(spelling):
    assert canonical(spelling) == "hps+bmtl(T=5.0)"


def test_options_are_sorted():
    assert str(parse_part("conv(b=1, a='x')")) == "conv(a='x', b=1)"


@pytest.mark.parametrize("name, message", [
    ("hsp", "Unknown architecture 'hsp'. Known: hps, "), ("ew+hps", "'ew' is a strategy.*as in 'hps.ew'"),
    ("hps+pcgard", "Unknown strategy 'pcgard'. Known: pcgrad, "), ("hps+hps", "'hps' in .* is an architecture"),
    ("hps+ew+uw", "names 2 strategies; at most one for losses and one for gradients"),
    ("hps+pcgrad+mgda", "names 2 strategies"), ("hps+ew+pcgrad+mgda", "names 3 strategies"),
    ("hps+ew(T=5)", "'ew'.*'T'"), ("", "Cannot read ''"),
    ("dwa", "'dwa' is a strategy, which stands behind an architecture and a plus, as in 'hps.dwa'"),
    ("dwa(T=1.0)+hps", "'dwa' is a strategy"), ("hps+dwa+conal", "'conal' in 'hps.dwa.conal' is an architecture"),
    ("hps+mmd", "'mmd' in 'hps.mmd' is an architecture"),
    ("hps+", "Cannot read 'hps.': on each side"), ("+ew", "Cannot read '.ew': on each side"),
    ("hps++ew", "Cannot read 'hps..ew'"), ("hps + dwa + ", "Cannot read 'hps . dwa . '"), ("+", "Cannot read '.'"),
    ("hps+dw a", "Cannot read 'dw a'.*It stands in 'hps.dw a'"),
    ("hps+bmtl(T)", r"options of 'bmtl\(T\)'.*in 'hps.bmtl"),
])
def test_names_that_cannot_be_are_refused(name, message):
    with pytest.raises(ValueError, match=message):
        parse(name)


def test_a_loss_strategy_and_a_gradient_strategy_go_together():
    problem = small()
    both = methods.run("hps+dwa+pcgrad", problem, budget="smoke", progress=False)
    assert both.config["method"] == "hps+dwa+pcgrad"
    turned = methods.run("hps+pcgrad+dwa", problem, budget="smoke", progress=False)
    assert weights(turned.model) == weights(both.model)


# --- options of training ----------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "steps"), [
    ("hps", 2), ("hps(epochs=2)", 4), ("stl(epochs=3)", 6), ("hps(epochs=.2)", 2), ("dsmtl-il", 4),
    ("dsmtl-il(epochs=2, guard=True)", 8), ("ltb(epochs=2)", 6)])
def test_epochs_multiply_those_of_the_budget_in_every_stage(name, steps):
    run = methods.run(name, small(train=256), budget="smoke", progress=False)  # two batches an epoch, one of a half
    assert run.cost["steps"] == steps
    assert run.config["method"] == canonical(name)


def test_epochs_are_no_option_of_the_model():
    assert methods.count_parameters("hps(epochs=2)", "multidigits") == methods.count_parameters("hps", "multidigits")


@pytest.mark.parametrize("epochs", ["0", "-1", "True", "many", "1e999"])
def test_what_is_no_multiple_of_epochs_is_refused(epochs):
    with pytest.raises(ValueError, match="no multiple of the budget's epochs; 2 trains twice as long"):
        methods.run(f"hps(epochs={epochs})", small(), budget="smoke", progress=False)
    with pytest.raises(ValueError, match="no multiple of the budget's epochs"):
        methods.count_parameters(f"hps(epochs={epochs})", "multidigits")


# --- the registry ---------------------------------------------------------------------------------------

def test_the_yardsticks_are_there():
    assert methods.names()[:2] == ["stl", "hps"]
    assert isinstance(methods.build("stl", small()), models.STL)
    assert type(methods.build("hps", small())) is models.HPS


def test_an_own_method_can_be_registered():
    trained = []

    def procedure(problem, build, strategy, setting):
        trained.append(strategy)
        first = setting.fit(problem, build(problem), strategy, "first", epochs=1)
        return setting.fit(problem, first.model, "ew", "second", lr=0.01, seed=5)

    def build(problem, width=3):
        return models.HPS(problem, {"name": "mlp", "widths": [width]})

    methods.register("mine", build, procedure, "rlw")
    run = methods.run("mine(width=7)", small(), budget="smoke", progress=False)
    assert run.model.shared.out_shape == (7,)
    assert [type(strategy).__name__ for strategy in trained] == ["RandomWeighting"]
    assert (run.config["lr"], run.config["seed"], run.config["method"]) == (0.01, 5, "mine(width=7)")


@pytest.mark.parametrize("name, message", [
    ("hps", "A method named 'hps' is there already; choose another name"),
    ("my method", "Cannot read 'my method'"), (" mine", "cannot be a method's name; use letters, digits and hyphens"),
    ("mine(T=5)", "cannot be a method's name"), ("mine()", "cannot be a method's name"),
])
def test_names_that_cannot_be_registered(name, message):
    with pytest.raises(ValueError, match=message):
        methods.register(name, models.STL)
    assert "mine" not in methods.names()


def test_an_option_that_the_method_does_not_have_is_told():
    with pytest.raises(ValueError, match="Method 'hps' does not take these .*'width'.*own are encoder; all take"):
        methods.build("hps(width=3)", small())
    with pytest.raises(ValueError, match="'gaet'.*own are encoder, gate_after, gate, guard, guard_split; all take"):
        methods.build("dsmtl-il(gaet=sigmoid)", small())
    for name in ("p-darts", "pc-darts"):
        for wrong in ("width=3", "on=darts", "problem=1"):
            with pytest.raises(methods.UnknownOption, match=r"own are sizes, cells, .*order, .* guard_split\.$"):
                methods.build(f"{name}({wrong})", small())

    def build(problem):
        raise TypeError("something else")

    with pytest.raises(TypeError, match="something else"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(methods, "_METHODS", {"bad": methods.Method(build, methods.train_once)})
        methods.build("bad", small())


@pytest.mark.parametrize("call", [
    methods.procedure, methods.parse, methods.canonical, methods.run, methods.build,
    lambda name, *_: methods.check_kind(name, small()), lambda name, *_: methods.taken_apart(methods.Part(name))])
def test_a_method_that_is_not_there_is_told_with_those_that_are(call):
    with pytest.raises(ValueError, match="Unknown architecture 'hsp'. Known: hps, "):
        call("hsp", *[small()] * (call in (methods.run, methods.build)))


# --- budgets ------------------------------------------------------------------------------------------------

def test_smoke_is_two_batches():
    run = methods.run("hps", small(train=1000), budget="smoke", progress=False)
    assert run.cost["steps"] == 2 and run.config["batch_size"] == methods.BATCH_SIZE


@pytest.mark.parametrize("budget", ["smoke", "fast", "full", "paper"])
def test_a_problem_may_say_what_a_budget_means(budget):
    problem = dataclasses.replace(small(), training={budget: {"epochs": 7, "lr": 0.5, "batch_size": 5, "samples": 9}})
    arguments = budget_arguments(problem, budget)
    assert {key: arguments[key] for key in ("epochs", "lr", "batch_size", "samples")} == {
        "epochs": 7, "lr": 0.5, "batch_size": 5, "samples": 9}
    other = "full" if budget == "fast" else "fast"
    assert budget_arguments(problem, other) == {"batch_size": methods.BATCH_SIZE, **methods.BUDGETS[other]}


@pytest.mark.parametrize(("rows", "epochs", "steps"), [(341, 94, 282), (6_000, 6, 282), (20, 280, 280)])
def test_a_budget_is_a_number_of_steps_where_the_problem_does_not_say_epochs(rows, epochs, steps):
    run = methods.run("hps", small(train=rows), progress=False)
    assert (run.config["epochs"], run.cost["steps"]) == (epochs, steps)


@pytest.mark.parametrize(("name", "rows", "epochs", "steps"), [
    ("hps(drop_last=True)", 341, 140, 280), ("hps(drop_last=False)", 341, 94, 282),
    ("hps(drop_last=True, epochs=.5)", 341, 70, 140), ("hps(drop_last=True)", 256, 140, 280)])
def test_a_budgets_steps_are_counted_as_they_are_made(name, rows, epochs, steps):
    """With `drop_last` an epoch is a step shorter, and so there are more of them."""
    run = methods.run(name, small(train=rows), progress=False)
    assert (run.config["epochs"], run.cost["steps"]) == (epochs, steps)


def test_large_data_get_at_least_the_epochs_of_the_budget():
    assert budget_arguments(small(), "full") == {"batch_size": 128, "epochs": 20, "steps": 2_800}


def test_a_budgets_name_may_change_its_settings():
    problem = small(train=40)
    run = methods.run("hps", problem, budget=" fast( epochs = 3,batch_size=10 )", progress=False)
    assert (run.cost["steps"], run.config["budget"]) == (12, "fast(batch_size=10, epochs=3)")
    own = dataclasses.replace(problem, training={"fast": {"epochs": 7, "lr": 0.5}})
    assert budget_arguments(own, "fast(epochs=3)") == {"batch_size": 128, "epochs": 3, "lr": 0.5, "samples": 6_000}
    assert budget_arguments(own, "fast") == {"batch_size": 128, "epochs": 7, "lr": 0.5, "samples": 6_000}


@pytest.mark.parametrize(("budget", "message"), [
    ("fast(epoch=3)", "Unknown setting of budget 'fast' 'epoch'. Known: epochs, batch_size"),
    ("fast(epochs=0)", "epochs=0 of budget 'fast' must be a whole number from 1"),
    ("fast(epochs=2.5)", "epochs=2.5"), ("fast(batch_size=True)", "batch_size=True"),
    ("fast(clip=0)", "clip is 0; it must be a positive number"), ("fast(clip=True)", "clip is True; it must be"),
    ("fast(warmup=1.5)", "warmup is 1.5; it must be"), ("fast(sampling=often)", "sampling is 'often'; it must be"),
    ("quick(epochs=2)", "Unknown budget 'quick'")])
def test_settings_of_budgets_are_checked(budget, message):
    with pytest.raises(ValueError, match=message):
        methods.run("hps", small(), budget=budget, progress=False)


@pytest.mark.parametrize("seed", [-1, True])
def test_seeds_are_whole_numbers_from_0(seed):
    with pytest.raises(ValueError, match="is no whole number from 0 upwards"):
        methods.run("hps", small(), seed=seed, budget="smoke", progress=False)


@pytest.mark.parametrize("budget, message", [
    ("fats", "Unknown budget 'fats'. Known: fast, full, paper, smoke"),
    ("paper", "No paper prints settings for problem 'small'; use one of the budgets smoke, fast, full"),
])
def test_budgets_that_are_not_there_are_told(budget, message):
    with pytest.raises(ValueError, match=message):
        methods.run("hps", small(), budget=budget)


def test_every_offline_problem_has_every_budget_it_needs():
    for name in OFFLINE:
        problem = data.describe(name)
        for budget in ("smoke", "fast", "full"):
            arguments = budget_arguments(problem, budget)
            assert set(arguments) <= {"epochs", "batch_size", "lr", "samples", "evaluate", "optimizer", "weight_decay",
                                      "schedule"}


# --- running --------------------------------------------------------------------------------------------------

TRAINING = {"fast": {"epochs": 2, "batch_size": 16, "lr": 0.05, "samples": 30}}


def trainable():
    return dataclasses.replace(small(dropout=0.2), training=TRAINING)


@pytest.mark.parametrize("name, model", [("stl", models.STL), ("hps", models.HPS)])
def test_a_method_is_model_and_fit_with_the_budgets_settings(name, model):
    run = methods.run(name, trainable(), seed=3, progress=False)
    seed_everything(3)
    problem = trainable().sized(30)
    by_hand = training.fit(problem, model(problem), strategies.make("ew"), epochs=2, batch_size=16, lr=0.05, seed=3,
                           progress=False)
    assert weights(run.model) == weights(by_hand.model)
    assert run.history.equals(by_hand.history) and run.metrics == by_hand.metrics
    assert run.config == {**by_hand.config, "method": name, "budget": "fast"}


def test_a_learning_rate_may_be_given():
    run = methods.run("hps", trainable(), lr=0.2, progress=False)
    assert run.config["lr"] == 0.2 and run.config["epochs"] == 2


def test_a_method_starts_from_scratch_each_time():
    first = methods.run("hps", trainable(), progress=False)
    torch.rand(7)
    assert weights(methods.run("hps", trainable(), progress=False).model) == weights(first.model)


def test_a_checkpoint_is_written_where_asked(tmp_path):
    methods.run("hps", trainable(), checkpoint=tmp_path / "deep" / "state", progress=False)
    assert (tmp_path / "deep" / "state.json").exists()


@pytest.mark.parametrize("first, then", [
    ("dsmtl-jl", "dsmtl-jl(gate=sigmoid)"), ("conal", "conal(architecture_lr=1.0)"), ("hps", "hps+pcgrad"),
])
def test_a_checkpoint_of_another_method_is_refused(tmp_path, first, then):
    methods.run(first, small(), budget="smoke", checkpoint=tmp_path / "state", progress=False)
    with pytest.raises(ValueError, match=f"belongs to another training, with .*'method': '{first}'"):
        methods.run(then, small(), budget="smoke", checkpoint=tmp_path / "state", progress=False)


def test_a_search_that_anneals_cannot_be_made_longer(tmp_path, monkeypatch):
    methods.run("ltb", small(), budget="smoke", checkpoint=tmp_path / "state", progress=False)
    monkeypatch.setitem(methods.BUDGETS["smoke"], "epochs", 2)
    with pytest.raises(ValueError, match="belongs to another training, with {'epochs': 1}"):
        methods.run("ltb", small(), budget="smoke", checkpoint=tmp_path / "state", progress=False)


def test_a_problem_may_be_named_with_options(tmp_path, monkeypatch):
    (tmp_path / "problem_with_options.py").write_text(
        "from tests.problems import small\ndef make(train=10, void=0.0):\n    return small(train=train, void=void)\n")
    monkeypatch.syspath_prepend(tmp_path)
    problem = methods.load_problem("problem_with_options:make(train=12)")
    assert len(problem.train) == 12 and problem.options == {"train": 12, "void": 0.0}
    assert methods.run("hps", "problem_with_options:make(train=12)", budget="smoke", progress=False).cost["steps"] == 1


# --- counting -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "problem"), [
    *((name, "multidigits(train=9, val=9, test=9)") for name in methods.names() if name not in SHALLOW),
    *((name, "relatedness") for name in methods.names() if name not in (*NEEDS_MAPS, *CELLS))])
def test_parameters_are_those_of_the_model(name, problem):
    model = methods.build(name, methods.load_problem(problem))
    assert methods.count_parameters(name, problem) == sum(p.numel() for p in model.parameters())


def test_counting_takes_no_data_and_no_memory(monkeypatch):
    devices = set()

    class Watched(models.STL):
        def __init__(self, problem):
            assert problem.train is None
            super().__init__(problem)
            self.big = nn.Parameter(torch.empty(10**6, 10**6))  # four terabytes
            devices.update(p.device.type for p in self.parameters())

    def refuse(*args, **kwargs):
        raise AssertionError("data were made")

    monkeypatch.setattr(TensorSplit, "__init__", refuse)
    methods.register("watched", Watched)
    small_one = methods.count_parameters("stl", "multidigits")
    assert methods.count_parameters("watched", "multidigits") == small_one + 10**12
    assert devices == {"meta"}


def test_every_method_takes_the_rule_for_the_best_epoch_and_its_patience():
    problem = dataclasses.replace(small(), training={"fast": {"epochs": 6, "batch_size": 16, "lr": 0.5}})
    run = methods.run("hps(select=(size, mse), patience=2)+dwa", problem, progress=False)
    errors = run.history.query("split == 'val' and name == 'mse'")["value"].tolist()
    assert run.config["select"] == ["size", "mse"] and run.config["patience"] == 2
    assert run.config["selected_epoch"] == 1 + errors.index(min(errors))
    for name in ("stl(select=best-val)", "dsmtl-il(select='best-val', drop_last=True)", "ltb(select=best-val)"):
        assert methods.run(name, problem, progress=False).config["select"] == "best-val"
    assert methods.canonical("hps( select = best-val )") == "hps(select='best-val')"
    with pytest.raises(ValueError, match="Unknown metric of task 'size' 'accuracy'"):
        methods.run("hps(select=(size, accuracy))", problem, progress=False)
