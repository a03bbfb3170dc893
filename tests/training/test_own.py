"""One object for a loop of one's own: what `fit` does, to the bit; in parts; saved and restored; nothing left out."""

import copy

import pytest
import torch
from torch import nn

from mtlcourse import models
from mtlcourse.files import derived_seed, load_state, save_state, seed_everything
from mtlcourse.strategies import Chain, make, names
from mtlcourse.tasks import mean_losses
from mtlcourse.training import Loop, fit
from tests.problems import small

PROBLEM = small(("kind", "size", "big"))
KINDS = {"kind": "classification", "size": "regression", "big": "classification"}
EPOCHS, BATCH = 3, 16
BY_ENTRY = {name for name in names() if (make(name).needs == "module_grams" or make(name).by_entry)}
EVERY = [(name, at) for name in names() for at in ("parameters", "features")
         if at == "parameters" or make(name).needs != "losses" and name not in BY_ENTRY]


class Own(nn.Module):
    """A network that says nothing of itself, of the same parts as hard sharing."""

    def __init__(self, problem=PROBLEM):
        super().__init__()
        model = models.HPS(problem)
        self.trunk, self.outputs = model.shared, model.heads

    def forward(self, x):
        z = self.trunk(x)
        return {name: head(z) for name, head in self.outputs.items()}


def built(kind=Own, problem=PROBLEM, seed=0):
    seed_everything(seed)
    return kind(problem)


def losses_of(net, batch, problem=PROBLEM):
    """One a sample, as a user has them."""
    predictions = net(batch.inputs)
    return {task.name: task.loss(predictions[task.name], batch.targets[task.name]) for task in problem.tasks
            if task.name in batch.targets}


def looped(loop, net, problem=PROBLEM, epochs=EPOCHS, losses=losses_of, after=lambda: None):
    """Train as `fit` does, with its order of the data; the mean losses of all epochs."""
    seed_everything(0)
    order, means = torch.Generator().manual_seed(derived_seed(0, "order")), []
    for _ in range(epochs):
        net.train()
        for batch in problem.train.batches(BATCH, shuffle=True, generator=order):
            loop.step(losses(net, batch, problem), again=lambda batch=batch: losses(net, batch, problem))
            after()
        means.append(loop.epoch_end())
    return means


def flat(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def fitted(strategy, at="parameters", problem=PROBLEM, kind=models.HPS, **options):
    options = {"epochs": EPOCHS, "batch_size": BATCH, "lr": 0.05, "progress": False, "precision": "float32", **options}
    return fit(problem, built(kind, problem), strategy, at=at, **options)


def trained_losses(run):
    table = run.history[(run.history["split"] == "train") & (run.history["name"] == "loss")]
    return table.pivot(index="epoch", columns="task", values="value").to_dict("records")


# --- what fit does ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, at", EVERY)
def test_it_is_fit_to_the_bit_with_every_strategy(name, at):
    run = fitted(name, at)
    net = built(models.HPS)
    assert looped(Loop(net, name, at=at, lr=0.05, steps_per_epoch=3), net) == trained_losses(run)
    assert torch.equal(flat(net), flat(run.model))
    own = built()
    loop = Loop(own, name, tasks=KINDS, cut="trunk", at=at, lr=0.05, steps_per_epoch=3)
    looped(loop, own)
    assert torch.equal(flat(own), flat(run.model))
    assert loop.updates == run.cost["steps"] and loop.epoch == EPOCHS and len(loop.weights.heads) == 3


@pytest.mark.parametrize("options, own", [
    ({"weight_decay": 0.1, "optimizer": "adamw"}, {}), ({"optimizer": "nesterov"}, {}), ({"seed": 0, "clip": 0.2}, {}),
    ({"schedule": "cosine"}, {"epochs": EPOCHS}), ({"schedule": "inverse"}, {"epochs": EPOCHS}),
    ({"schedule": lambda optimizer: torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)}, {}),
    ({"precision": "bfloat16"}, {}), ({"warmup": 5}, {}), ({"warmup": 8, "schedule": "cosine"}, {"epochs": EPOCHS}),
    ({"warmup": 5, "schedule": "inverse", "clip": 0.2, "weight_decay": 0.1}, {})])
@pytest.mark.parametrize("strategy", ["gradnorm", "rlw"])
def test_it_has_the_settings_of_fit(strategy, options, own):
    net = built()
    loop = Loop(net, strategy, tasks=KINDS, shared=net.trunk, lr=0.05, steps_per_epoch=3, **own, **options)

    def losses(net, batch, problem):
        with loop.autocast():
            return losses_of(net, batch)

    looped(loop, net, losses=losses)
    assert torch.equal(flat(net), flat(fitted(strategy, **options).model))


@pytest.mark.parametrize("strategy", ["ew", "gradnorm", "famo"])
@pytest.mark.parametrize("options", [{}, {"warmup": 5, "schedule": "cosine"}])
def test_parts_have_the_learning_rates_that_fit_gives_them(strategy, options):
    run = fitted(strategy, lr_of={"shared": 0.01, "heads": 0.1, "heads.size": 0.2}, **options)
    net = built()
    loop = Loop(net, strategy, tasks=KINDS, shared="trunk", lr=0.05, steps_per_epoch=3, epochs=EPOCHS,
                lr_of={"trunk": 0.01, "outputs": 0.1, "outputs.size": 0.2}, **options)
    assert {0.01, 0.1, 0.2} <= {group["initial_lr" if options else "lr"] for group in loop.optimizer.param_groups}
    looped(loop, net)
    assert torch.equal(flat(net), flat(run.model))
    model = built(models.HPS)
    looped(Loop(model, strategy, lr=0.05, steps_per_epoch=3, epochs=EPOCHS, lr_of={"encoder": 0.01, "heads": 0.1,
                                                                                  "heads.size": 0.2}, **options), model)
    assert torch.equal(flat(model), flat(run.model))


def test_the_rates_of_an_optimiser_that_is_there_are_warmed_and_put_back():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    groups = [{"params": net.trunk.parameters()}, {"params": net.outputs.parameters(), "lr": 0.4}]
    optimizer = torch.optim.SGD(groups, 0.1)
    loop, seen = Loop(net, "ew", tasks=KINDS, optimizer=optimizer, warmup=3, accumulate=2), []
    optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append([g["lr"] for g in optimizer.param_groups]))
    for _ in range(10):
        loop.step(losses_of(net, batch))
        assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.4]
    assert seen == [pytest.approx([0.1 * share, 0.4 * share]) for share in (0.25, 0.5, 0.75, 1, 1)]


def test_a_schedule_counts_updates_and_not_calls():
    """As in `fit`, where parts of a batch are no steps."""
    def rate_after(**options):
        net, batch = built(), next(PROBLEM.train.batches(BATCH))
        loop = Loop(net, "ew", tasks=KINDS, schedule="inverse", lr=1.0, optimizer="sgd", **options)
        for _ in range(options["steps_per_epoch"]):
            loop.step(losses_of(net, batch))
        loop.epoch_end()
        return loop.optimizer.param_groups[0]["lr"]

    assert rate_after(steps_per_epoch=2) == rate_after(steps_per_epoch=4, accumulate=2) == (1 + 0.002) ** -0.75


@pytest.mark.parametrize("name", ["ew", "uw", "pcgrad", "gradnorm", "famo", "rlw", "db-mtl"])
def test_tasks_may_be_missing_in_a_step(name):
    problem = small(("kind", "size", "big"), void=0.93)
    present = [set(mean_losses(problem.tasks, built(Own, problem)(batch.inputs), batch))
               for batch in problem.train.batches(4)]
    assert any(0 < len(some) < 3 for some in present)
    run = fitted(name, problem=problem, batch_size=4)

    def losses(net, batch, problem):
        return mean_losses(problem.tasks, net(batch.inputs), batch)

    for kind, options in ((models.HPS, {}), (Own, {"tasks": KINDS, "cut": "trunk"})):
        net = built(kind, problem)
        loop = Loop(net, name, lr=0.05, **options)
        seed_everything(0)
        order = torch.Generator().manual_seed(derived_seed(0, "order"))
        for _ in range(EPOCHS):
            for batch in problem.train.batches(4, shuffle=True, generator=order):
                if found := losses(net, batch, problem):
                    loop.step(found, again=lambda batch=batch, net=net: losses(net, batch, problem))
            loop.epoch_end()
        assert torch.equal(flat(net), flat(run.model))


def test_models_with_hooks_have_them_called():
    net = built(models.MRN)
    loop = Loop(net, "ew", lr=0.05, steps_per_epoch=3)
    seed_everything(0)
    order = torch.Generator().manual_seed(derived_seed(0, "order"))
    for _ in range(EPOCHS):
        for batch in PROBLEM.train.batches(BATCH, shuffle=True, generator=order):
            predictions = net(batch.inputs)
            losses = {t.name: t.loss(predictions[t.name], batch.targets[t.name]) for t in PROBLEM.tasks}
            loop.step(losses, auxiliary=net.auxiliary_loss(batch, predictions))
        loop.epoch_end()
    assert torch.equal(flat(net), flat(fitted("ew", kind=models.MRN).model))
    with pytest.raises(ValueError, match="MRN has a loss of its own: give auxiliary=model.auxiliary_loss"):
        loop.step(losses)


def test_a_loss_in_half_precision_is_scaled_and_an_overflow_left_out():
    net = built()
    loop = Loop(net, "pcgrad", tasks=KINDS, cut="trunk", precision="float16", lr=0.01)
    batch = next(PROBLEM.train.batches(BATCH))
    before = flat(net)
    hook = net.trunk.stages[0][0].weight.register_hook(lambda gradient: gradient * float("inf"))
    loop.step(losses_of(net, batch))
    assert torch.equal(flat(net), before) and loop.updates == 0 and loop.engine.scale == 2.0**15
    hook.remove()
    loop.step(losses_of(net, batch))
    assert not torch.equal(flat(net), before) and loop.updates == 1


# --- updates from several calls -------------------------------------------------------------------------------

@pytest.mark.parametrize("name, at", [(name, at) for name, at in EVERY if (name, at) != ("graddrop", "features")])
def test_calls_that_make_one_update_are_the_update_of_the_whole(name, at):
    if make(name).needs == "gradients" and at == "features":
        pytest.skip("decides on the entries of whole batches")
    nets, batches = [built().double(), built().double()], list(PROBLEM.train.batches(8))
    whole, parts = (Loop(net, name, tasks=KINDS, cut="trunk", at=at, optimizer="sgd", lr=0.05, steps_per_epoch=40,
                         accumulate=k) for net, k in zip(nets, (1, 4), strict=True))

    def penalty(net):
        return 0.01 * sum(p.square().sum() for p in net.parameters())

    def of(net, some):
        found = [losses_of(net, batch, ) for batch in some]
        return {task: torch.cat([losses[task] for losses in found]).mean() for task in found[0]}

    for batch in batches:
        batch.inputs = batch.inputs.double()
        batch.targets["size"] = batch.targets["size"].double()
    for _ in range(3):
        whole.step(of(nets[0], batches[:4]), auxiliary=penalty(nets[0]), again=lambda: of(nets[0], batches[:4]))
        for number, batch in enumerate(batches[:4]):
            told = parts.step(losses_of(nets[1], batch), auxiliary=penalty(nets[1]),
                              again=lambda: of(nets[1], batches[:4]))
            assert bool(told) == (number == 3) and parts.updates == whole.updates - (number < 3)
        torch.testing.assert_close(flat(nets[0]), flat(nets[1]), rtol=1e-9, atol=1e-12)
    assert whole.epoch_end() == pytest.approx(parts.epoch_end())


def test_what_is_left_over_goes_on_and_is_in_no_state():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "pcgrad", tasks=KINDS, shared="trunk", accumulate=2)
    loop.step(losses_of(net, batch))
    assert loop.epoch_end() == {} and loop.updates == 0
    with pytest.raises(RuntimeError, match="1 of 2 parts of an update have come(.|\n)*Save after an update"):
        loop.state_dict()
    assert loop.step(losses_of(net, batch)) and loop.updates == 1
    loop.state_dict()


def test_parts_with_other_tasks_are_refused_and_the_next_one_begins_anew():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "ew", tasks=KINDS, shared="trunk", accumulate=2, optimizer="sgd", lr=0.1)
    loop.step(losses_of(net, batch))
    with pytest.raises(ValueError, match=r"Of 2 parts that make one update, part 2 has losses of \['kind'\]"):
        loop.step({"kind": losses_of(net, batch)["kind"]})
    for _ in range(2):
        loop.step(losses_of(net, batch))
    twin = built()
    Loop(twin, "ew", tasks=KINDS, shared="trunk", optimizer="sgd", lr=0.1).step(losses_of(twin, batch))
    torch.testing.assert_close(flat(net), flat(twin))


def test_a_gradient_that_is_not_finite_is_found_in_parts_too():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "ew", tasks=KINDS, shared="trunk", accumulate=2)
    losses = losses_of(net, batch)
    loop.step({**losses, "size": losses["size"] + (0 * net.trunk.stages[0][0].weight.sum()).sqrt()})
    with pytest.raises(ArithmeticError, match="squared gradient norm of task"):
        loop.step(losses_of(net, batch))


# --- the state ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [*names(), ("uw", "pcgrad")])
@pytest.mark.parametrize("kind", [Own, models.HPS])
def test_what_is_saved_in_the_middle_goes_on_to_the_bit(name, kind, tmp_path):
    def loop_of(net):
        strategy = Chain(*map(make, name)) if isinstance(name, tuple) else name
        return Loop(net, strategy, lr=0.05, schedule="cosine", epochs=4, steps_per_epoch=3, clip=1.0, warmup=6,
                    **({"tasks": KINDS, "cut": "trunk"} if kind is Own else {}))

    batches = list(PROBLEM.train.batches(BATCH))

    def step(loop, net, number):
        batch = batches[number % 3]
        told = loop.step(losses_of(net, batch), again=lambda: losses_of(net, batch))
        return told, loop.epoch_end() if number % 3 == 2 else None

    net = built(kind)
    loop = loop_of(net)
    for number in range(4):
        step(loop, net, number)
    save_state(tmp_path / "state", {"net": dict(net.state_dict()), "loop": loop.state_dict()})
    other = built(kind, seed=1)
    again = loop_of(other)
    state = load_state(tmp_path / "state")
    other.load_state_dict(state["net"])
    again.load_state_dict(state["loop"])
    for number in range(4, 9):
        assert step(loop, net, number) == step(again, other, number)
    assert torch.equal(flat(net), flat(other)) and again.updates == 9


def test_who_shares_what_is_part_of_the_state():
    """Of a task that is missing in the first step after a restart nothing would be known."""
    batch = next(PROBLEM.train.batches(BATCH))

    def begun(net):
        return Loop(net, "pcgrad", tasks=KINDS, lr=0.05)

    net = built()
    loop = begun(net)
    loop.step(losses_of(net, batch))
    other = built()
    other.load_state_dict(net.state_dict())
    again = begun(other)
    again.load_state_dict(copy.deepcopy(loop.state_dict()))
    assert again.shared == loop.shared != begun(built()).shared
    for some in (["kind"], ["kind", "size"]):
        for one, it in ((loop, net), (again, other)):
            one.step({name: loss for name, loss in losses_of(it, batch).items() if name in some})
    assert torch.equal(flat(net), flat(other))


def test_the_state_of_another_loop_is_refused():
    state = Loop(built(), "uw", tasks=KINDS).state_dict()
    with pytest.raises(ValueError, match="of a loop with the strategy Unc(.|\n)*this one has ScaleLearning"):
        Loop(built(), "imtl-l", tasks=KINDS).load_state_dict(state)
    with pytest.raises(ValueError, match=r"with the tasks \['kind', 'size', 'big'\], and this one has \['kind'"):
        Loop(built(), "uw", tasks=["kind", "size"]).load_state_dict(state)
    with pytest.raises(ValueError, match="parameter group"):
        Loop(built(), "uw", tasks=KINDS, optimizer=lambda groups: torch.optim.Adam(
            [p for group in groups for p in group["params"]])).load_state_dict(state)


def test_a_network_can_be_copied_and_given_to_another_loop():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loops = [Loop(net, "mgda", tasks=KINDS, cut=net.trunk, at="features") for _ in range(2)]
    twin = copy.deepcopy(net)
    twin(batch.inputs)
    assert not loops[0].network.outputs
    del loops[1]
    losses = losses_of(net, batch)
    assert len(loops[0].network.outputs) == 1 and len(net.trunk._forward_hooks) == 1
    loops[0].step(losses)
    assert not loops[0].network.outputs
    with torch.no_grad():
        net(batch.inputs)
    net.eval()(batch.inputs)
    assert not loops[0].network.outputs


# --- what is left out is noticed --------------------------------------------------------------------------------

def test_ends_of_epochs_that_do_not_come_are_an_error():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "dwa", tasks=KINDS, steps_per_epoch=2)
    for _ in range(2):
        loop.step(losses_of(net, batch))
    with pytest.raises(RuntimeError, match=r"2 calls of step\(\) are an epoch(.|\n)*DynamicWeightAverage must hear"):
        loop.step(losses_of(net, batch))
    loop.epoch_end()
    loop.step(losses_of(net, batch))
    loop.epoch_end()
    with pytest.raises(RuntimeError, match="no step since the last one"):
        loop.epoch_end()


@pytest.mark.parametrize("who, options", [
    ("DynamicWeightAverage", {"strategy": "dwa"}), ("Chain", {"strategy": Chain(make("dwa"), make("mgda"))}),
    ("SmoothTchebycheff", {"strategy": make("stch", warm_up=1)}),
    ("The schedule", {"schedule": "cosine", "epochs": 2}),
    ("The schedule", {"schedule": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 2)})])
def test_who_hears_of_epochs_asks_for_their_length(who, options):
    with pytest.raises(ValueError, match=f"{who} must hear of the end of each epoch: give steps_per_epoch=len"):
        Loop(built(), tasks=KINDS, **options)


def test_others_need_no_length_and_no_ends():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "pcgrad", tasks=KINDS, steps_per_epoch=1)
    for _ in range(3):
        loop.step(losses_of(net, batch))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_second_look_that_is_not_given_is_an_error_before_the_update(accumulate):
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop, before = Loop(net, "famo", tasks=KINDS, accumulate=accumulate), flat(net)
    for _ in range(accumulate - 1):
        loop.step(losses_of(net, batch))
    with pytest.raises(ValueError, match=r"give step\(losses, again=function\)"):
        loop.step(losses_of(net, batch))
    assert torch.equal(flat(net), before)


def test_numbers_that_the_strategy_learns_are_taken_into_an_optimiser_that_is_there():
    net, twin = built(), built()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.05)
    loop = Loop(net, "uw", tasks=KINDS, shared="trunk", optimizer=optimizer)
    assert loop.optimizer is optimizer and len(optimizer.param_groups) == 2
    other = Loop(twin, "uw", tasks=KINDS, shared="trunk", lr=0.05, optimizer=torch.optim.Adam)
    for group in other.optimizer.param_groups[1:]:
        group["lr"] = 0.05
    looped(loop, net)
    looped(other, twin)
    assert torch.equal(flat(net), flat(twin)) and loop.strategy.log_variances[0].item() != 0


def test_what_is_taken_out_of_the_optimiser_is_missed_at_the_second_step():
    net, batch = built(), next(PROBLEM.train.batches(BATCH))
    loop = Loop(net, "uw", tasks=KINDS, shared="trunk")
    del loop.optimizer.param_groups[1]
    loop.step(losses_of(net, batch))
    with pytest.raises(RuntimeError, match="learns numbers of its own, and nobody optimises them"):
        loop.step(losses_of(net, batch))
