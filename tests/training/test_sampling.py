"""How often each task comes, where tasks have inputs of their own."""

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mtlcourse import data, methods, models
from mtlcourse.batches import epoch_of, samples_of_epoch, steps_of_epoch
from mtlcourse.files import seed_everything
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import fit
from tests.problems import small

LENGTHS = {"a": 41, "b": 20, "c": 3}
SAMPLINGS = st.one_of(st.just("cycle"), st.just("proportional"), st.floats(0.5, 50), st.integers(1, 9))
lengths = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 60), min_size=1)


def split(sizes):
    return TensorSplit({name: torch.randn(n, 4) for name, n in sizes.items()},
                       {name: torch.arange(n) for name, n in sizes.items()})


def epoch(sizes, batch_size, sampling, seed=0, **options):
    return list(epoch_of(split(sizes), batch_size, torch.Generator().manual_seed(seed), sampling=sampling, **options))


def taken(batches, name):
    """The samples of the task in each step in which it comes."""
    return [batch.targets[name].tolist() for batch in batches if name in batch.targets]


@given(lengths, st.integers(1, 12), SAMPLINGS, st.integers(0, 9), st.booleans())
def test_each_task_has_the_share_of_the_batches_that_its_samples_fill(sizes, batch_size, sampling, seed, drop_last):
    largest = max(sizes.values())
    drop_last = drop_last and largest >= batch_size
    batches = epoch(sizes, batch_size, sampling, seed, drop_last=drop_last)
    assert len(batches) == (largest // batch_size if drop_last else math.ceil(largest / batch_size))
    for name, n in sizes.items():
        found, power = taken(batches, name), {"cycle": 0, "proportional": 1}.get(sampling, None)
        samples = max(1, round(largest * (n / largest) ** (1 / sampling if power is None else power)))
        if drop_last:
            assert {len(rows) for rows in found} == {batch_size} and len(found) == max(1, samples // batch_size)
        else:
            assert sum(map(len, found)) == samples and len(found) == math.ceil(samples / batch_size)
            assert all(len(rows) == batch_size for rows in found[:-1])
        rows = [row for some in found for row in some]
        for start in range(0, len(rows) - n + 1, n):  # each round is a whole order of its own
            assert sorted(rows[start : start + n]) == list(range(n))


@given(lengths, st.integers(1, 12), st.booleans())
def test_temperatures_lie_between_proportional_and_cycle(sizes, batch_size, drop_last):
    shares = [samples_of_epoch(sizes, sampling, batch_size, drop_last)
              for sampling in ("proportional", 1, 1.5, 3, 1e9, "cycle")]
    assert shares[0] == shares[1] and shares[-2] == shares[-1]
    assert all(one[name] <= other[name] for one, other in zip(shares, shares[1:], strict=False) for name in sizes)
    if not drop_last:
        assert shares[0] == sizes and set(shares[-1].values()) == {max(sizes.values())}


def test_the_steps_of_a_task_are_drawn_by_lot_and_decided_by_the_seed():
    def steps(seed):
        batches = epoch(LENGTHS, 2, "proportional", seed)
        return [["".join(sorted(batch.targets)) for batch in batches], taken(batches, "b")]

    assert steps(0) == steps(0) != steps(1)
    met, times = torch.zeros(6), 120
    for seed in range(times):
        met += torch.tensor(["c" in batch.targets for batch in epoch(LENGTHS, 8, "proportional", seed)]).float()
    expected, spread = times / 6, math.sqrt(times / 6 * (1 - 1 / 6))
    assert met.sum() == times and ((met - expected).abs() < 4 * spread).all()


def test_the_order_of_cycle_is_what_it_was_before_there_was_a_choice():
    def plain():
        return split(LENGTHS).batches(8, True, torch.Generator().manual_seed(5))

    for one, other in zip(plain(), epoch(LENGTHS, 8, "cycle", 5), strict=True):
        assert {t: y.tolist() for t, y in one.targets.items()} == {t: y.tolist() for t, y in other.targets.items()}


@pytest.mark.parametrize("sampling", ["cycle", "proportional", 2.0])
@pytest.mark.parametrize("size", [2, 3, 9])
@pytest.mark.parametrize("drop_last", [False, True])
def test_shares_of_a_step_are_its_parts(sampling, size, drop_last):
    part = small(("kind", "size", "big"), void=0.5, own=True).train

    def epoch_with(share):
        return epoch_of(part, 7, torch.Generator().manual_seed(3), drop_last, share, sampling)

    whole = list(epoch_with((0, 1)))
    for rank in range(size):
        for batch, share in zip(whole, epoch_with((rank, size)), strict=True):
            wanted = batch.parts(size)[rank]
            assert share.counts == batch.counts and share.samples == batch.samples
            assert list(share.targets) == list(wanted.targets)
            assert all(share.inputs[name].equal(wanted.inputs[name]) for name in wanted.targets)


# --- training -------------------------------------------------------------------------------------------

def problem(name: str = "small"):
    return dataclasses.replace(small(("kind", "size", "big"), own=True), name=name)  # 40, 20 and 20 samples


def train(own=None, strategy="ew", build=models.HPS, **options):
    own = own or problem()
    seed_everything(0)
    return fit(own, build(own), strategy, **{"epochs": 3, "batch_size": 8, "progress": False, **options})


def outcome(run):
    return (run.history.to_dict("list"), run.metrics, {key: x.tolist() for key, x in run.model.state_dict().items()},
            run.config, run.cost["steps"], run.cost["samples"])


@pytest.mark.parametrize(("sampling", "samples"), [("cycle", 3 * 40), ("proportional", 80), (2.0, 40 + 2 * 28)])
def test_steps_and_samples_are_counted(sampling, samples, monkeypatch):
    import tqdm.auto

    bars = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **{**options, "disable": False})
            bars.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    run = train(sampling=sampling)
    assert run.cost["steps"] == 3 * steps_of_epoch(len(problem().train), 8) == bars[0].total == bars[0].n == 15
    assert run.cost["samples"] == 3 * samples
    assert set(run.history.query("split == 'train' and epoch == 3")["task"]) == {"kind", "size", "big"}


@pytest.mark.parametrize("strategy", ["ew", "uw", "dwa", "famo", "pcgrad", "mgda", "graddrop", "gradnorm"])
def test_strategies_take_steps_in_which_tasks_are_missing(strategy):
    run = train(strategy=strategy, sampling="proportional")
    assert outcome(run) != outcome(train(strategy=strategy))


@pytest.mark.parametrize("update", [2, 5, 7])
@pytest.mark.parametrize("sampling", ["proportional", 3.0])
def test_a_training_that_was_cut_off_goes_on_with_the_same_steps_to_the_bit(tmp_path, sampling, update):
    class Cut(models.HPS):
        def after_step(self, step):
            if step == update:
                raise KeyboardInterrupt

    Cut.__name__ = "HPS"
    options = {"sampling": sampling, "save_every": 1, "drop_last": update == 5, "strategy": "pcgrad"}
    with pytest.raises(KeyboardInterrupt):
        train(build=Cut, checkpoint=tmp_path / "state", **options)
    assert outcome(train(checkpoint=tmp_path / "state", **options)) == outcome(train(**options))


def test_parts_of_a_step_come_to_what_the_step_does():
    def weights(**options):
        return torch.nn.utils.parameters_to_vector(train(sampling="proportional", optimizer="sgd", lr=0.05,
                                                         **options).model.parameters())

    for strategy in ("ew", "pcgrad"):
        assert torch.allclose(weights(strategy=strategy), weights(strategy=strategy, accumulate=3), atol=1e-6)


def test_methods_and_searches_sample_by_their_name_or_the_budgets():
    for method, budget in (("hps(sampling=proportional)", "fast(batch_size=8, epochs=2)"),
                           ("hps", "fast(batch_size=8, epochs=2, sampling=proportional)"),
                           ("bmtas(sampling=2.0)", "fast(batch_size=8, epochs=2)")):
        run = methods.run(method, problem(), budget=budget, progress=False)
        assert run.config["sampling"] == (2.0 if "bmtas" in method else "proportional")
    assert methods.run("hps", problem(), budget="fast(epochs=2, sampling=proportional)",
                       progress=False).cost["samples"] == 2 * 80


def test_a_mapped_split_is_sampled_as_one_in_memory(tmp_path):
    from mtlcourse.data import mapped

    memory = problem().train
    mapped.convert(memory, tmp_path / "set")
    options = (8, torch.Generator().manual_seed(1), False, (0, 1), "proportional")
    on_disk = list(epoch_of(data.MappedSplit(tmp_path / "set"), *options))
    options[1].manual_seed(1)
    for one, other in zip(on_disk, epoch_of(memory, *options), strict=True):
        assert {t: x.tolist() for t, x in one.inputs.items()} == {t: x.tolist() for t, x in other.inputs.items()}


@pytest.mark.parametrize(("sampling", "message"), [
    ("often", "sampling is 'often'; it must be 'cycle' .all tasks equally often., 'proportional'"),
    (0, "sampling is 0; it must be"), (-1.0, "sampling is -1.0; it must be"), (True, "sampling is True; it must be"),
    (math.inf, "sampling is inf; it must be"), (math.nan, "sampling is nan; it must be")])
def test_what_is_no_sampling_is_refused(sampling, message):
    with pytest.raises(ValueError, match=message):
        train(sampling=sampling)


@pytest.mark.parametrize("own", [small(), Problem("one", small().tasks, *[
    data.DatasetSplit([(torch.zeros(4), 0, torch.zeros(2))] * 3, small().tasks)] * 3, (4,), {"name": "mlp"})])
def test_where_tasks_share_their_inputs_there_is_nothing_to_sample(own):
    with pytest.raises(ValueError, match="these tasks share their inputs: all come in every step"):
        train(own, sampling="proportional")
    assert "sampling" not in train(small(), sampling="cycle").config
