"""One step from several shares: parts of a batch, half precision, several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from click.testing import CliRunner
from torch import nn

from mtlcourse import bench, cli, models, runs, strategies
from mtlcourse.files import seed_everything
from mtlcourse.strategies import Engine
from mtlcourse.strategies.shares import refuse_wrapped
from mtlcourse.tasks import mean_losses
from mtlcourse.training import fit, make_step
from mtlcourse.training.distributed import ALONE, Processes, processes
from tests.problems import doubled, small
from tests.strategies.nets import Normed

HERE = Path(__file__).parent
PROBLEM = small(("kind", "size", "big"), train=40, void=0.5)


def started(*command: str) -> str:
    """What a program prints that ends well; all of it where it does not."""
    done = subprocess.run([sys.executable, *command], cwd=HERE.parent.parent, capture_output=True, text=True,
                          timeout=600, check=False, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": "."})
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_two_processes_do_what_one_does(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    told = started(*torchrun, str(HERE / "processes.py"), str(tmp_path))
    assert told.count("passed") == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_a_process_that_is_killed_ends_the_other_with_a_sentence_and_the_training_goes_on(tmp_path):
    assert "passed: 10 times" in started(str(HERE / "killed.py"), str(tmp_path))


# --- shares in one process ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("at", ["parameters", "features"])
@pytest.mark.parametrize("name", ["ew", "uw", "gradnorm", "pcgrad", "mgda", "graddrop"])
def test_what_shares_have_measured_adds_up(name, at):
    if at == "features" and name in ("gradnorm", "graddrop"):
        pytest.skip("not for shares")
    problem = doubled(small(("kind", "size", "big"), void=0.5))
    batch = next(problem.train.batches(11))

    def gradients(k: int) -> list[torch.Tensor]:
        seed_everything(0)
        model = models.HPS(problem).double()
        engine = Engine(model, name, at)
        first, *others = [engine.measure(mean_losses(problem.tasks, model(part.inputs), part))
                          for part in batch.parts(k)]
        for other in others:
            first.add(other)
        engine.decide(first, sum(parameter.square().sum() for parameter in model.parameters()))
        return [parameter.grad for parameter in model.parameters()]

    for one, several in zip(gradients(1), gradients(3), strict=True):
        assert torch.allclose(one, several, atol=1e-12)


def test_shares_with_other_tasks_do_not_add_up():
    model = models.HPS(PROBLEM)
    batch = next(PROBLEM.train.batches(8))
    losses = mean_losses(PROBLEM.tasks, model(batch.inputs), batch)
    engine = Engine(model, "pcgrad")
    with pytest.raises(ValueError, match="needs one for each task of the batch"):
        engine.measure(losses).add(engine.measure({"kind": losses["kind"]}))


@pytest.mark.parametrize(("options", "message"), [
    ({"accumulate": 9}, r"accumulate is 9, and must be .* no more than the samples of a batch \(8\)"),
    ({"accumulate": 0}, "accumulate is 0, and must be at least 1"),
    ({"save_every": 0}, "save_every is 0, and must be at least 1"),
    ({"accumulate": 2, "strategy": "graddrop", "at": "features"}, "at='parameters', or accumulate=1"),
    ({"accumulate": 2, "build": Normed}, "has batch norm .* Use group norm"),
    ({"precision": "float8"}, "'bfloat16' or 'float16'"),
])
def test_what_cannot_come_in_parts_is_refused(options, message):
    build = options.pop("build", models.HPS)
    with pytest.raises(ValueError, match=message):
        fit(PROBLEM, build(PROBLEM), epochs=1, batch_size=8, progress=False, **options)


def test_a_step_of_ones_own_must_know_of_the_parts():
    model = models.HPS(PROBLEM)
    with pytest.raises(ValueError, match="give both to make_step"):
        fit(PROBLEM, model, step=make_step(PROBLEM.tasks, model), accumulate=2, batch_size=8, progress=False)


def test_a_hook_that_would_see_a_share_only_is_refused():
    class Hooked(models.HPS):
        def after_backward(self, losses, weights):
            pass

    with pytest.raises(ValueError, match=r"Hooked.after_backward\(losses, weights\) would see shares"):
        fit(PROBLEM, Hooked(PROBLEM), accumulate=2, batch_size=8, progress=False)


@pytest.mark.parametrize(("name", "at"), [("ew", "parameters"), ("pcgrad", "parameters"), ("mgda", "features")])
def test_half_precision_learns_as_single_precision_does(name, at):
    def trained(precision: str, **options) -> float:
        seed_everything(0)
        run = fit(PROBLEM, models.HPS(PROBLEM), name, at=at, epochs=8, batch_size=8, lr=0.01, progress=False,
                  precision=precision, **options)
        return run.history.query("split == 'train' and epoch == 8")["value"].mean()

    single, half = trained("float32"), trained("float16")
    assert half != single and half == pytest.approx(single, rel=0.1)  # the first steps are left out, to find the scale
    assert trained("float16", accumulate=3) == pytest.approx(single, rel=0.1)


def test_a_gradient_that_no_scale_makes_finite_stops_the_training():
    model = models.HPS(PROBLEM)
    step = make_step(PROBLEM.tasks, model, precision="float16")
    model.shared.stages[0][0].weight.register_hook(lambda gradient: gradient * float("nan"))
    batch = next(PROBLEM.train.batches(8))
    for _ in range(16):
        assert step(batch) and step.left_out and step.steps == 0
    with pytest.raises(strategies.NonFiniteGradient):
        step(batch)


def test_the_scale_is_kept_with_the_checkpoint():
    step = make_step(PROBLEM.tasks, models.HPS(PROBLEM), precision="float16")
    step.engine.scale, step.good = 2.0**9, 1234
    other = make_step(PROBLEM.tasks, models.HPS(PROBLEM), precision="float16")
    other.load_state_dict(step.state_dict())
    assert (other.engine.scale, other.good) == (2.0**9, 1234)


# --- processes ------------------------------------------------------------------------------------------------------

def test_without_a_group_it_is_said_how_to_start_one():
    with pytest.raises(RuntimeError, match="torchrun --nproc-per-node 2"):
        Processes()


def test_alone_nothing_is_summed():
    with processes() as (total, device):
        assert (total.rank, total.size, total.bytes, device) == (0, 1, 0, "auto")
    one = torch.ones(2)
    ALONE([one])
    ALONE.same([one])
    assert one.tolist() == [1, 1]


def test_a_port_that_is_taken_is_told(monkeypatch):
    store = dist.TCPStore("localhost", 0, is_master=True)
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": store.port}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConnectionError, match=f"cannot meet at localhost:{store.port}(.|\n)*torchrun --standalone"), \
            processes("cpu"):
        pass


def test_a_wrapped_model_is_refused_with_the_way_that_works(tmp_path):
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        wrapped = nn.parallel.DistributedDataParallel(models.HPS(PROBLEM))
        for refused in (lambda: refuse_wrapped(wrapped), lambda: make_step(PROBLEM.tasks, wrapped),
                        lambda: fit(PROBLEM, wrapped, progress=False)):
            with pytest.raises(ValueError, match=r"DistributedDataParallel(.|\n)*total=training.distributed.Processes"):
                refused()
    finally:
        dist.destroy_process_group()


# --- the command line -----------------------------------------------------------------------------------------------

def test_train_leaves_the_run_where_a_sweep_finds_it(tmp_path):
    arguments = ["train", "--problem", "relatedness", "--method", "hps+pcgrad", "--seed", "3", "--budget", "smoke",
                 "--folder", str(tmp_path)]
    done = CliRunner().invoke(cli.main, arguments)
    config = runs.configuration("relatedness", "hps+pcgrad", 3, "smoke")
    assert done.exit_code == 0, done.output
    assert runs.exists(config, tmp_path) and runs.folder_of(config, tmp_path).name in done.output
    table = bench.sweep(["relatedness"], ["hps+pcgrad"], [3], budget="smoke", folder=tmp_path, progress=False).table
    assert len(list(tmp_path.glob("[!.]*"))) == 1 and len(table)


def test_shards_are_parts_of_a_sweep_whatever_is_done(tmp_path):
    def sweep(shard):
        return bench.sweep(["relatedness"], ["stl", "hps"], [0, 1], budget="smoke", folder=tmp_path, progress=False,
                           shard=shard).table["configuration"].unique().tolist()

    first, second, third = (sweep((number, 3)) for number in (1, 2, 3))
    assert sorted(first + second + third) == sorted(sweep((1, 1))) and len(set(first + second + third)) == 4
    assert sweep((2, 3)) == second
    for shard, message in (((0, 2), "shard 0/2 is none"), ((3, 2), "shard 3/2 is none"), ((5, 5), "nothing to run in")):
        with pytest.raises(ValueError, match=message):
            sweep(shard)
    done = CliRunner().invoke(cli.main, ["bench", "--shard", "two"])
    assert done.exit_code == 2 and "no part such as 2/8" in done.output
