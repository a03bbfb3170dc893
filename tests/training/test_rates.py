"""Learning rates of parts, the first steps' share of them, and that a training with either is another one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mtlcourse import methods, models
from mtlcourse.files import seed_everything
from mtlcourse.training import OtherTraining, fit, make_step
from mtlcourse.training.rates import by_part, warmed
from tests import domains
from tests.problems import small

PROBLEM = small()
QUICK = {"epochs": 3, "batch_size": 16, "lr": 0.05, "progress": False}  # three steps an epoch


def built(kind=models.HPS, problem=PROBLEM):
    seed_everything(0)
    return kind(problem)


def weights(module):
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


def outcome(run):
    return run.history.to_dict("list"), run.metrics, weights(run.model), run.config, run.cost["steps"]


def rates(model, groups):
    """The learning rate of each parameter, by name; a parameter that is in two groups, or in none, fails."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = [(names[id(parameter)], group["lr"]) for group in groups for parameter in group["params"]]
    assert len(listed) == len(dict(listed)) == len(names)
    return dict(listed)


def group(model, **options):
    return [{"params": list(model.parameters()), "lr": 0.1, "weight_decay": 0.2, **options}]


# --- by part --------------------------------------------------------------------------------------------

def test_each_part_has_its_rate_and_the_others_theirs():
    model = built()
    groups = by_part(model, group(model), {"heads": 0.3, "heads.size": 0.4, "shared.stages.1": 0.5})
    assert all(one["weight_decay"] == 0.2 for one in groups)
    for name, rate in rates(model, groups).items():
        expected = {"heads.kind": 0.3, "heads.size": 0.4, "shared.stages.1": 0.5, "shared.stages.0": 0.1}
        assert rate == next(value for part, value in expected.items() if name.startswith(f"{part}."))


@pytest.mark.parametrize("kind", [models.HPS, models.STL, models.DSMTL, models.CrossStitch, models.MMoE])
def test_encoder_is_all_but_the_heads_whatever_a_model_calls_its_parts(kind):
    model = built(kind)
    found = rates(model, by_part(model, group(model), {"encoder": 0.3, "heads": 0.4}))
    assert {name: 0.4 if name.startswith("heads.") else 0.3 for name in found} == found


def test_a_part_that_is_called_encoder_is_just_that():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder, self.neck, self.heads = nn.Linear(2, 2), nn.Linear(2, 2), nn.ModuleDict()

    model = Net()
    found = rates(model, by_part(model, group(model), {"encoder": 0.3}))
    assert found == {"encoder.weight": 0.3, "encoder.bias": 0.3, "neck.weight": 0.1, "neck.bias": 0.1}


def test_a_part_is_no_beginning_of_a_word():
    model = nn.ModuleDict({"head": nn.Linear(1, 1), "heads": nn.Linear(1, 1)})
    assert rates(model, by_part(model, group(model), {"head": 0.3}))["heads.weight"] == 0.1


def test_what_learns_an_architecture_keeps_its_rate_unless_it_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.trunk, self.heads = nn.Linear(1, 1), nn.Linear(1, 1)
            self.policy = nn.Parameter(torch.zeros(2))

        def architecture_parameters(self):
            return [self.policy]

    model = Net()
    assert rates(model, by_part(model, group(model), {"encoder": 0.3}))["policy"] == 0.1
    assert rates(model, by_part(model, group(model), {"encoder": 0.3, "policy": 0.4}))["policy"] == 0.4


def test_groups_that_a_model_makes_itself_are_split_and_keep_what_else_they_say():
    model = nn.ModuleDict({"a": nn.Linear(1, 1), "b": nn.Linear(1, 1)})
    own = [{"params": [model["a"].weight, model["b"].weight], "lr": 0.1, "weight_decay": 0.2},
           {"params": [model["a"].bias, model["b"].bias], "lr": 0.5, "weight_decay": 0.0}]
    groups = by_part(model, own, {"b": 0.3})
    assert rates(model, groups) == {"a.weight": 0.1, "b.weight": 0.3, "a.bias": 0.5, "b.bias": 0.3}
    assert [one["weight_decay"] for one in groups] == [0.2, 0.2, 0.0, 0.0]


def test_fit_with_rates_by_part_is_fit_with_such_an_optimiser():
    def by_hand(groups):
        assert len(groups) == 1
        return torch.optim.Adam([{"params": model.shared.parameters(), "lr": 0.05},
                                 {"params": model.heads.parameters(), "lr": 0.2}], fused=True)

    model = built()
    one = fit(PROBLEM, built(), lr_of={"heads": 0.2}, schedule="cosine", **QUICK)
    other = fit(PROBLEM, model, optimizer=by_hand, schedule="cosine", **QUICK)
    assert weights(one.model) == weights(other.model)
    assert one.config["lr"] == 0.05 and one.config["lr_of"] == {"heads": 0.2}


@pytest.mark.parametrize("method", ["stl({})", "dsmtl-il({})", "dsmtl-jl({})+pcgrad", "bmtas({})", "auxilearn({})",
                                    "hps(guard=individual, {})"])
def test_methods_in_stages_and_searches_take_them_too(method):
    name = method.format("lr_of={'encoder': 0.002, 'heads': 0.01}, clip=0.5, warmup=1")
    run = methods.run(name, small(), budget="fast(epochs=2, batch_size=16)", progress=False)
    assert run.config["lr_of"] == {"encoder": 0.002, "heads": 0.01}
    assert run.config["clip"] == 0.5 and run.config["warmup"] == 1


@pytest.mark.parametrize(("lr_of", "message"), [
    ("{'head': 0.1}", "Unknown part of HPS in lr_of 'head'. Known: heads, .*encoder.*shared.stages"),
    ("{'heads.depth': 0.1}", "Unknown part of HPS in lr_of 'heads.depth'"),
    ("{'heads': 0}", r"lr_of\['heads'\] is 0; it must be a positive number"),
    ("{'heads': fast}", r"Cannot read the options"),
    ("{'heads': 'fast'}", r"lr_of\['heads'\] is 'fast'; it must be a positive number"),
    ("{}", "lr_of is {}; give {name of a part: learning rate}"), ("0.1", "lr_of is 0.1; give {name of a part"),
])
def test_parts_and_rates_that_cannot_be_are_told(lr_of, message):
    with pytest.raises(ValueError, match=message):
        methods.run(f"hps(lr_of={lr_of})", PROBLEM, budget="smoke", progress=False)


# --- warm-up --------------------------------------------------------------------------------------------

class Noting(models.HPS):
    """Notes the learning rate of each step."""

    noted: list

    def param_groups(self, lr, weight_decay):
        self.groups = [{"params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]
        return self.groups

    def after_step(self, step):
        self.noted.append(self.optimizer.param_groups[0]["lr"])


def noted(**options):
    def optimizer(groups):
        model.optimizer = torch.optim.SGD(groups)
        return model.optimizer

    model = built(Noting)
    model.noted = []
    fit(PROBLEM, model, optimizer=optimizer, **{**QUICK, "lr": 1.0, **options})
    return model.noted


@pytest.mark.parametrize("schedule", [None, "cosine", "inverse",
                                      lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)])
@pytest.mark.parametrize("warmup", [1, 2, 5])
def test_the_first_steps_take_a_share_of_what_the_schedule_says(schedule, warmup):
    plain, warm = noted(schedule=schedule), noted(schedule=schedule, warmup=warmup)
    shares = [min(1.0, (step + 1) / (warmup + 1)) for step in range(9)]
    assert warm == [rate * share for rate, share in zip(plain, shares, strict=True)]
    assert shares[warmup] == 1 > shares[warmup - 1] > 0


@given(st.lists(st.floats(1e-6, 10), min_size=1, max_size=3), st.integers(0, 20), st.integers(0, 20))
def test_rates_grow_by_equal_parts_and_are_left_as_they_were(given_rates, done, warmup):
    optimizers = [torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": rate}]) for rate in given_rates]
    with warmed(optimizers, done, warmup):
        inside = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    assert [optimizer.param_groups[0]["lr"] for optimizer in optimizers] == given_rates
    assert inside == pytest.approx([min(1, (done + 1) / (warmup + 1)) * rate for rate in given_rates])


def test_rates_are_left_as_they_were_by_a_step_that_fails():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    with pytest.raises(KeyError), warmed([optimizer], 0, 3):
        raise KeyError
    assert optimizer.param_groups[0]["lr"] == 0.3


@pytest.mark.parametrize("schedule", [None, "cosine"])
@pytest.mark.parametrize("update", [1, 3, 4])
def test_a_training_that_was_cut_off_goes_on_warming_up_to_the_bit(tmp_path, schedule, update):
    class Cut(models.HPS):
        def after_step(self, step):
            if step == update + 1:
                raise KeyboardInterrupt

    Cut.__name__ = "HPS"
    options = {**QUICK, "warmup": 5, "clip": 0.5, "lr_of": {"heads": 0.1}, "schedule": schedule, "save_every": 1}
    whole = fit(PROBLEM, built(), "uw", **options)
    with pytest.raises(KeyboardInterrupt):
        fit(PROBLEM, built(Cut), "uw", checkpoint=tmp_path / "state", **options)
    assert outcome(fit(PROBLEM, built(), "uw", checkpoint=tmp_path / "state", **options)) == outcome(whole)


@pytest.mark.parametrize("settings", ["hps(warmup={})", "fast(warmup={}, epochs=3, batch_size=16)"])
@pytest.mark.parametrize(("warmup", "message"), [
    (9, "warmup is 9 steps, and the training has 9: it would never take its learning rate"),
    (-1, "warmup is -1; it must be a whole number of steps"), (1.5, "warmup is 1.5; it must be"),
    (True, "warmup is True; it must be")])
def test_what_is_no_warm_up_is_refused(settings, warmup, message):
    method, budget = "hps", "fast(epochs=3, batch_size=16)"
    method, budget = (settings.format(warmup), budget) if "hps" in settings else (method, settings.format(warmup))
    with pytest.raises(ValueError, match=message):
        methods.run(method, PROBLEM, budget=budget, progress=False)


# --- what a configuration says of them --------------------------------------------------------------------

UNUSUAL = {"clip": 0.5, "lr_of": {"heads": 0.1}, "warmup": 2, "sampling": "proportional"}


def test_a_configuration_without_them_is_what_it_was_before_there_were_any():
    own = small(own=True)
    assert not UNUSUAL.keys() & fit(own, built(problem=own), **QUICK).config.keys()
    assert not UNUSUAL.keys() & methods.budget_arguments(own, "fast(epochs=2)").keys()
    assert UNUSUAL.items() <= fit(own, built(problem=own), **UNUSUAL, **QUICK).config.items()


@pytest.mark.parametrize("name", UNUSUAL)
@pytest.mark.parametrize("before", [False, True])
def test_a_checkpoint_of_a_training_with_other_settings_is_refused(tmp_path, name, before):
    own, options = small(own=True), {name: UNUSUAL[name]}
    first, then = (options, {}) if before else ({}, options)
    fit(own, built(problem=own), checkpoint=tmp_path / "state", **QUICK, **first)
    with pytest.raises(OtherTraining, match=name):
        fit(own, built(problem=own), checkpoint=tmp_path / "state", **{**QUICK, "epochs": 4}, **then)


@pytest.mark.parametrize("name", ["clip", "lr_of"])
def test_a_step_of_ones_own_must_know_of_what_fit_is_told(name):
    options = {name: UNUSUAL[name]}
    with pytest.raises(ValueError, match=f"{name}=.* needs a step that knows of it"):
        fit(PROBLEM, model := built(), step=make_step(PROBLEM.tasks, model), **options, **QUICK)
    run = fit(PROBLEM, model := built(), step=make_step(PROBLEM.tasks, model, lr=0.05, **options), **options, **QUICK)
    assert weights(run.model) == weights(fit(PROBLEM, built(), **options, **QUICK).model)


def test_a_clipped_training_is_made_of_clipped_steps():
    run = fit(PROBLEM, built(), "pcgrad", clip=0.01, optimizer="sgd", **{**QUICK, "epochs": 1, "batch_size": 40})
    moved = torch.cat([(after - before).detach().flatten() for after, before in
                       zip(run.model.parameters(), built().parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.05 * 0.01, rel=1e-3)


@pytest.mark.parametrize("method", ["dan", "dann", "mcd", "aaspc"])
def test_methods_that_adapt_take_them_too(method):
    options = "clip=0.5, lr_of={'encoder': 0.002}, warmup=1"
    run = methods.run(f"{method}({options})", domains.problem(), budget="fast(epochs=2)", progress=False)
    plain = methods.run(method, domains.problem(), budget="fast(epochs=2)", progress=False)
    assert run.config["clip"] == 0.5 and run.config["lr_of"] == {"encoder": 0.002} and run.config["warmup"] == 1
    assert weights(run.model) != weights(plain.model)
