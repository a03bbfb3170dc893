"""The controller draws every configuration, its gradient is unbiased, and it finds a planted one; chance does not."""

import copy
import itertools
import math

import pytest
import torch

from mtlcourse.search.alignment import AlignmentSpace
from mtlcourse.search.alignment.controller import ByLot, Fixed, Policy, Reinforce, reinforce

SPACE = AlignmentSpace()
OPTIONS = [len(options) for options in SPACE.choices.values()]


def policy(options: list[int]) -> Policy:
    """One that has an opinion: the last layers of a new one are zero."""
    torch.manual_seed(0)
    found = Policy(options, width=8)
    for layer in found.layers:
        torch.nn.init.normal_(layer.weight)
        torch.nn.init.normal_(layer.bias)
    return found


def rows(options: list[int]) -> torch.Tensor:
    return torch.tensor(list(itertools.product(*(range(count) for count in options))))


def test_every_configuration_has_a_positive_probability():
    probability = policy(OPTIONS)(rows(OPTIONS))[0].double().exp()
    assert len(probability) == 7776 and (probability > 0).all()
    torch.testing.assert_close(probability.sum().item(), 1.0, rtol=0, atol=1e-5)


def test_a_new_policy_prefers_nothing():
    torch.testing.assert_close(Policy(OPTIONS)(rows(OPTIONS))[0], torch.full((7776,), -math.log(7776)))


def test_samples_follow_the_probabilities():
    mine, options = policy([2, 3]), [2, 3]
    drawn, *measured = mine.sample(torch.Generator().manual_seed(0), rows=20_000)
    torch.testing.assert_close(measured, list(mine(drawn)))
    shares = torch.stack([(drawn == row).all(1).double().mean() for row in rows(options)])
    torch.testing.assert_close(shares, mine(rows(options))[0].double().exp(), rtol=0, atol=0.02)


def test_entropies_on_the_way_average_to_the_entropy():
    mine, options = policy([2, 3, 2]), [2, 3, 2]
    log_probability, on_the_way = mine(rows(options))
    probability = log_probability.exp()
    torch.testing.assert_close((probability * on_the_way).sum(), -(probability * log_probability).sum())


@pytest.mark.parametrize("options", [[3], [2, 3]])
@pytest.mark.parametrize("baseline", [0.0, -1.7])
def test_the_gradient_estimate_is_unbiased(options: list[int], baseline: float):
    """Its mean over all rows that can be drawn is the gradient of the expected reward, whatever the baseline."""
    mine, all_rows = policy(options).double(), rows(options)
    rewards = torch.linspace(-2, 3, len(all_rows), dtype=torch.float64) ** 2
    parameters = list(mine.parameters())
    probability = mine(all_rows)[0].exp()
    exact = torch.autograd.grad(-(probability * rewards).sum(), parameters, materialize_grads=True)
    mean = [torch.zeros_like(parameter) for parameter in parameters]
    for row, p, reward in zip(all_rows, probability.detach(), rewards, strict=True):
        loss = reinforce(mine(row[None])[0], reward[None], baseline)
        for total, gradient in zip(mean, torch.autograd.grad(loss, parameters, materialize_grads=True), strict=True):
            total += p * gradient
    torch.testing.assert_close(mean, list(exact))


def planted(seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(100 + seed)
    return [int(torch.randint(count, (), generator=generator)) for count in OPTIONS]


def last_reward(controller: Reinforce | ByLot, best: list[int], updates: int = 120) -> float:
    """The share of choices that are the planted ones in the last pick: what a search would return."""
    for _ in range(updates):
        picks = controller.pick()
        reward = sum(a == b for a, b in zip(picks, best, strict=True)) / len(best)
        controller.learn(picks, reward)
    return reward


def test_it_finds_a_planted_configuration_and_chance_does_not():
    learned = [last_reward(Reinforce(OPTIONS, seed), planted(seed)) for seed in range(10)]
    by_lot = [last_reward(ByLot(OPTIONS, seed), planted(seed)) for seed in range(10)]
    assert sum(reward == 1 for reward in learned) >= 9
    assert sum(reward == 1 for reward in by_lot) == 0 and max(by_lot) < min(learned)


def test_the_baseline_is_a_moving_average_and_the_first_reward_teaches_nothing():
    controller = Reinforce([3], decay=0.75)
    before = controller.probability([1])
    controller.learn([1], 4.0)
    assert controller.baseline == 4.0 and controller.probability([1]) == before
    controller.learn([1], 8.0)
    assert controller.baseline == 5.0 and controller.probability([1]) > before
    controller.learn([1], -8.0)
    assert controller.baseline == 0.75 * 5 - 0.25 * 8


def test_what_was_drawn_teaches_the_same_as_what_was_not():
    first, second = Reinforce(OPTIONS, seed=1), Reinforce(OPTIONS, seed=1)
    for reward in (0.0, 1.0, -0.5):
        picks = first.pick()
        first.learn(picks, reward)
        second.learn(picks, reward)
    assert first.probability(picks) == second.probability(picks) != pytest.approx(1 / 7776)


def test_a_bonus_keeps_the_policy_open():
    def entropy(bonus: float) -> float:
        controller = Reinforce([3], bonus=bonus, lr=0.1)
        for reward in (0.0, 1.0, 1.0, 1.0, 1.0):
            controller.learn([1], reward)
        return controller.entropy

    assert entropy(10.0) > entropy(0.0) and entropy(0.0) < math.log(3)


@pytest.mark.parametrize("make", [Reinforce, ByLot])
def test_a_controller_goes_on_from_its_state(make):
    def going_on(controller, steps: int) -> list:
        seen = []
        for _ in range(steps):
            seen.append(controller.pick())
            controller.learn(seen[-1], float(sum(seen[-1])))
        return [*seen, controller.entropy]

    controller, again = make(OPTIONS, seed=3), make(OPTIONS, seed=4)
    going_on(controller, 3)
    again.load_state_dict(copy.deepcopy(controller.state_dict()))  # as a checkpoint does
    assert going_on(again, 4) == going_on(controller, 4)


def test_seeds_alone_decide():
    torch.manual_seed(5)
    first = [Reinforce(OPTIONS, seed=1).pick(), ByLot(OPTIONS, seed=1).pick()]
    torch.manual_seed(6)
    assert first == [Reinforce(OPTIONS, seed=1).pick(), ByLot(OPTIONS, seed=1).pick()]
    assert first != [Reinforce(OPTIONS, seed=2).pick(), ByLot(OPTIONS, seed=2).pick()]


def test_lots_are_equal():
    controller = ByLot([2, 3])
    drawn = [tuple(controller.pick()) for _ in range(6000)]
    assert all(abs(drawn.count(tuple(row)) / 6000 - 1 / 6) < 0.02 for row in rows([2, 3]).tolist())


def test_a_fixed_one_has_no_choice():
    controller = Fixed([1, 0, 2])
    controller.learn([1, 0, 2], 3.0)
    assert controller.pick() == [1, 0, 2] and controller.entropy == 0


@pytest.mark.parametrize(("option", "value"), [
    ("lr", -0.1), ("decay", 1.0), ("decay", -0.1), ("bonus", -1.0), ("bonus", True)])
def test_numbers_that_make_no_sense_are_refused(option: str, value):
    with pytest.raises(ValueError, match=option):
        Reinforce([3], **{option: value})
