"""What a strategy was made with, and what it remembers: by its name it may only be used where that is nothing."""

import pytest
import torch

from mtlcourse import models, strategies
from mtlcourse.files import seed_everything
from mtlcourse.strategies import Chain, Engine, make
from mtlcourse.tasks import mean_losses
from tests.problems import small

PROBLEM = small(("kind", "size", "big"))
BATCHES = list(PROBLEM.train.batches(10))


def steps(gradients_of) -> list[torch.Tensor]:
    """The gradients of four steps of plain descent with this way of getting them."""
    seed_everything(0)
    model = models.HPS(PROBLEM)
    found = []
    for batch in BATCHES:
        model.zero_grad()
        gradients_of(model, mean_losses(PROBLEM.tasks, model(batch.inputs), batch))
        found.append(torch.cat([p.grad.flatten() if p.grad is not None else torch.zeros(p.numel())
                                for p in model.parameters()]))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter -= 0.1 * parameter.grad
    return found


def with_one(name):
    """As it ought to be: one strategy for all steps, whose own parameters learn."""
    held = {}

    def gradients_of(model, losses):
        if not held:
            held["engine"] = Engine(model, make(name).bind(PROBLEM.tasks, torch.default_generator))
            groups = held["engine"].strategy.param_groups()
            held["own"] = torch.optim.SGD(groups, lr=0.1) if groups else None
        engine, own = held["engine"], held["own"]
        if own:
            own.zero_grad()
        engine.backward(losses)
        if own:
            own.step()
        if engine.strategy.looks_again:
            engine.look_again({task: loss / (2 + t) for t, (task, loss) in enumerate(losses.items())})
        engine.strategy.on_epoch_end(engine.losses)
    return gradients_of


@pytest.mark.parametrize("name", strategies.names())
def test_by_name_a_strategy_is_refused_or_does_what_one_object_does(name: str):
    if make(name).bind(["a", "b"]).remembers:
        with pytest.raises(ValueError, match=rf"Strategy '{name}' remembers(.|\n)*make_step\(tasks, model, '{name}'\)"):
            steps(lambda model, losses: strategies.backward(losses, model, name))
        return
    by_name = steps(lambda model, losses: strategies.backward(losses, model, name))
    torch.testing.assert_close(by_name, steps(with_one(name)))


@pytest.mark.parametrize("name", ["uw", "dwa", "gradnorm", "famo", "cl", "gradvac"])
def test_those_that_are_refused_would_have_stayed_at_their_start(name: str):
    starting_anew = steps(lambda model, losses: Engine(model, make(name)).backward(losses))
    assert not all(torch.equal(a, b) for a, b in zip(starting_anew, steps(with_one(name)), strict=True))


def test_random_choices_of_a_strategy_by_name_are_new_in_each_call():
    seed_everything(0)
    model = models.HPS(PROBLEM)
    drawn = [strategies.backward(mean_losses(PROBLEM.tasks, model(BATCHES[0].inputs), BATCHES[0]), model, "rlw")
             for _ in range(2)]
    assert not torch.equal(drawn[0].shared, drawn[1].shared)


def test_a_chain_remembers_if_one_of_its_parts_does():
    for loss, gradient, memory in (("dwa", "pcgrad", True), ("rlw", "gradvac", True), ("rlw", "pcgrad", False)):
        assert Chain(make(loss), make(gradient)).bind(["a", "b"]).remembers == memory


def test_options_are_those_that_were_given_and_the_defaults():
    assert make("bmtl", T=5.0).options == {"T": 5.0, "h": "exp", "coefficients": (0.0, 1.0, 0.5), "normalise": False}
    assert strategies.ConflictAverse(0.1).options == {"c": 0.1, "rescale": "none"}
    assert make("nash").options == {}  # what it hands to its base is not an option of its own
    chain = Chain(make("uw"), gradient=make("mgda"))
    assert chain.options == {"loss": chain.loss, "gradient": chain.gradient}
