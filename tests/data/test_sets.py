"""Published sets from tiny files in their layouts: fetched, converted, read, trained on; and their known defects."""

import functools
import gzip
import http.server
import json
import re
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from skimage.io import imread, imsave

from mtlcourse import data
from mtlcourse.data import benchmarks, cifar100, idx, sets
from mtlcourse.void import valid_mask

from .scripts import FOLDER, ran, script

PARTS = {"nyuv2": {"train": 8, "val": 4}, "cityscapes": {"train": 8, "val": 4},
         "celeba": {"train": 24, "val": 8, "test": 8}, "sarcos": {"train": 3_000, "test": 300},
         "taskonomy": {"train": 9, "val": 6},
         "cifar100_mtl": {"train": 10, "test": 5}, "multimnist": {"train": 60, "test": 30},
         "cifar_mtl": {"train": 60, "test": 30}, "coco": {"all": 56}, "pascal_context": {"train": 12, "val": 6},
         "office31": {"all": 124}, "office_home": {"all": 130}, "imageclef": {"all": 48}}
SETS = sorted(PARTS)
FEWER = {"cifar_mtl": {"train": 40, "val": 20, "test": 30}}


@pytest.mark.parametrize("name", SETS)
def test_a_sample_is_converted_and_loaded(name, root):
    problem = data.load(name, root=root(name), **FEWER.get(name, {}))
    there = json.loads((Path(root(name)) / name / "set.json").read_text())
    assert there["parts"] == PARTS[name] and there["sample"]
    for split in (problem.train, problem.val, problem.test):
        for batch in split.batches(3):
            problem.check(batch)
        assert all(split.count(task) for task in problem.task_names)
    assert problem.options["root"] == root(name)
    assert problem.task_names == data.describe(name).task_names


@pytest.mark.parametrize("name", [*SETS, "visda2017"])
def test_the_second_call_verifies_and_licence_and_terms_are_told(name, root):
    said = ran(name, "--sample", "--root", root(name))  # the second time
    assert "is there and whole; nothing was done" in said and "Cite " in said and len(said.splitlines()) >= 3
    assert "holds the tiny sample. Remove it" in ran(name, "--root", root(name), fails=True)


@pytest.mark.parametrize("name", SETS)
def test_a_set_that_is_not_there_is_one_sentence(name, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no {name} in {tmp_path}: run `python data_scripts/{name}.py --root "):
        data.load(name, root=str(tmp_path))
    assert (FOLDER / f"{name}.py").is_file()


# --- how sets come -----------------------------------------------------------------------------------------------

@pytest.fixture
def archive(tmp_path):
    """`nyuv2.zip` with a folder around all, in a folder of its own."""
    script("nyuv2").sample(tmp_path / "made" / "nyuv2")
    (tmp_path / "served").mkdir()
    return Path(shutil.make_archive(str(tmp_path / "served" / "nyuv2"), "zip", tmp_path / "made"))


def test_from_a_folder_an_archive_and_file_addresses(tmp_path, archive):
    for source in (tmp_path / "made" / "nyuv2", tmp_path / "made", archive.parent, archive.parent.as_uri()):
        to = tmp_path / f"to-{len(str(source))}-{str(source).startswith('file')}"
        assert "8 train, 4 val" in ran("nyuv2", "--root", to, "--source", source)
        assert len(data.load("nyuv2", root=str(to), holdout=0).train) == 8


def test_from_a_server(tmp_path, archive):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    handler = functools.partial(Quiet, directory=archive.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{served.server_address[1]}"
        assert "8 train, 4 val" in ran("nyuv2", "--root", tmp_path / "to", "--source", address)
        served.shutdown()
        thread.join()
    assert "nothing was done" in ran("nyuv2", "--root", tmp_path / "to")
    assert "could not be fetched" in ran("nyuv2", "--root", tmp_path / "other", "--source", address, fails=True)


@pytest.mark.parametrize(("harm", "message"), [
    (lambda folder: (folder / "train" / "depth" / "5.npy").unlink(), "5.npy is missing, one of 1: all of 0.npy to 7"),
    (lambda folder: (folder / "val" / "image" / "1.npy").unlink(), r"is missing"),
    (lambda folder: (folder / "train" / "depth" / "3.npy").write_bytes(b"half"), "could not give sample 3"),
    (lambda folder: shutil.rmtree(folder / "train" / "normal"), "There is no folder .*normal"),
    (lambda folder: shutil.rmtree(folder / "train"), "has no train, nor has a folder in it"),
    (lambda folder: np.save(folder / "train" / "label" / "2.npy", np.full((24, 32), 13.0)),
     "Sample 2 of NumberedArrays: Task 'segmentation': labels run from 13 to 13"),
    (lambda folder: np.save(folder / "train" / "label" / "2.npy", np.full((24, 32), 1.5)), "values such as 1.5, which"),
    (lambda folder: np.save(folder / "train" / "image" / "2.npy", np.full((24, 32, 3), 200.0)), "have 200, outs"),
    (lambda folder: np.save(folder / "train" / "image" / "2.npy", np.zeros((12, 32, 3))), r"targets have shape|shape"),
    (lambda folder: np.save(folder / "train" / "image" / "2.npy", np.array([{}]), allow_pickle=True), "allow_pickle"),
])
def test_damaged_sources_are_one_sentence_and_mended_ones_finish(tmp_path, harm, message):
    good = tmp_path / "good"
    script("nyuv2").sample(good)
    shutil.copytree(good, tmp_path / "bad")
    harm(tmp_path / "bad")
    said = ran("nyuv2", "--root", tmp_path / "to", "--source", tmp_path / "bad", fails=True)
    assert re.search(message, said) and "Traceback" not in said
    with pytest.raises(FileNotFoundError, match="run `python data_scripts/nyuv2.py"):
        data.load("nyuv2", root=str(tmp_path / "to"))
    assert "8 train, 4 val" in ran("nyuv2", "--root", tmp_path / "to", "--source", good)


@pytest.mark.parametrize(("content", "message"), [('{"version": 7}', "is of version 7, 1 is read here"),
                                                  ("{", "set.json is damaged"), ("[]", "set.json is damaged")])
def test_sets_of_another_version(tmp_path, content, message):
    (tmp_path / "nyuv2").mkdir()
    (tmp_path / "nyuv2" / "set.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        data.load("nyuv2", root=str(tmp_path))


def test_holding_out_is_by_seed_and_leaves_the_test_split_alone(root):
    problems = [data.load("nyuv2", root=root("nyuv2"), holdout=0.25, seed=seed) for seed in (0, 0, 1)]
    rows = [[p.train._index.inputs.tolist(), p.val._index.inputs.tolist()] for p in problems]
    assert rows[0] == rows[1] != rows[2] and sorted(sum(rows[0], [])) == list(range(8)) and len(rows[0][1]) == 2
    whole = data.load("nyuv2", root=root("nyuv2"), holdout=0)
    assert len(whole.train) == 8 and whole.val is whole.test and len(problems[0].test) == 4
    for wrong in (1, -0.1, True, "half"):
        with pytest.raises(ValueError, match="a share of the training samples, from 0 to below 1"):
            sets.with_holdout({"train": whole.train, "val": whole.val}, wrong, 0)


# --- known defects ----------------------------------------------------------------------------------------------

def in_no_error(problem, task_name, target):
    """Whatever is said where `target` has no label counts for nothing."""
    task = next(task for task in problem.tasks if task.name == task_name)
    here = valid_mask(target).all(1, keepdim=True)
    guess = torch.full_like(target, 0.25)
    other = torch.where(here, guess, 99.0)
    assert torch.equal(task.loss(guess, target), task.loss(other, target))
    for metric in task.metrics.values():
        assert torch.equal(metric().statistics(guess, target), metric().statistics(other, target))


@pytest.mark.parametrize("name", ["nyuv2", "cityscapes"])
def test_depth_of_zero_is_no_depth(name, root):
    problem = data.load(name, root=root(name))
    depth = next(problem.test.batches(4)).targets["depth"]
    assert depth[:, :, :2].isnan().all() and not depth[:, :, 2:].isnan().any() and (depth[:, :, 2:] > 0).all()
    in_no_error(problem, "depth", depth)


def test_normals_of_length_zero_are_none_and_those_of_sum_zero_are(root):
    problem = data.load("nyuv2", root=root("nyuv2"))
    normals = next(problem.test.batches(4)).targets["normals"]
    assert normals[:, :, :, :2].isnan().all()
    assert torch.allclose(normals[:, :, 0, 2], torch.tensor([0.6, -0.6, 0.0]), atol=1e-3)
    in_no_error(problem, "normals", normals)


def test_what_is_read_back_is_what_was_published(root):
    source = Path(root("nyuv2")) / "samples" / "nyuv2" / "val"
    batch = next(data.load("nyuv2", root=root("nyuv2")).test.batches(4))
    for i in range(4):
        image, label, depth = (np.load(source / name / f"{i}.npy") for name in ("image", "label", "depth"))
        assert np.abs(batch.inputs[i].permute(1, 2, 0).numpy() - image).max() <= 1 / 510 + 1e-6
        assert np.array_equal(batch.targets["segmentation"][i].numpy(), label)
        known = depth[..., 0] != 0
        assert np.allclose(batch.targets["depth"][i, 0].numpy()[known], depth[..., 0][known], rtol=1e-3, atol=0)


def test_numbers_are_sorted_as_numbers(tmp_path):
    """Sorted as names, 10.npy would stand before 2.npy; images and labels of one another would be lost."""
    script("nyuv2").write_numbered(tmp_path, {"train": 12, "val": 1}, 13, (4, 6),
                                   {name: name for name in ("label", "depth", "normal")})
    ran("nyuv2", "--root", tmp_path / "to", "--source", tmp_path)
    labels = next(data.load("nyuv2", root=str(tmp_path / "to"), holdout=0).train.batches(12)).targets["segmentation"]
    for i in (1, 2, 10, 11):
        assert np.array_equal(labels[i].numpy(), np.load(tmp_path / "train" / "label" / f"{i}.npy"))


def test_cityscapes_with_the_labels_folder_of_other_copies_and_depth_without_channel(tmp_path):
    script("cityscapes").sample(tmp_path / "set")
    for part in ("train", "val"):
        (tmp_path / "set" / part / "label").rename(tmp_path / "set" / part / "label_7")
        for path in (tmp_path / "set" / part / "depth").glob("*.npy"):
            np.save(path, np.load(path)[..., 0])
    assert "8 train, 4 val" in ran("cityscapes", "--root", tmp_path / "to", "--source", tmp_path / "set")
    assert data.load("cityscapes", root=str(tmp_path / "to")).test.count("depth") == 4


# --- CelebA -----------------------------------------------------------------------------------------------------

def test_celeba_has_forty_attributes_of_which_nine_are_taken(root):
    faces = script("celeba")
    assert tuple(faces.task_name(name) for name in faces.NAMES) == benchmarks.FORTY and len(benchmarks.FORTY) == 40
    assert set(benchmarks.ATTRIBUTES) < set(benchmarks.FORTY)
    nine, forty = (data.load("celeba", root=root("celeba"), attributes=which) for which in ("nine", "forty"))
    assert len(nine.tasks) == 9 and len(forty.tasks) == 40 and nine.input_shape == (3, 16, 16)  # those of the sample
    assert data.describe("celeba").input_shape == (3, 64, 64)
    sixteen = data.load("celeba", root=root("celeba"), attributes="sixteen", train=10, seed=1)
    assert len(sixteen.tasks) == 16 and len(sixteen.train) == 10 and len(sixteen.test) == 8
    assert set(benchmarks.SIXTEEN) < set(benchmarks.FORTY) and list(sixteen.tasks[0].metrics) == [
        "accuracy", "auc", "precision", "recall"]
    batch, whole = next(sixteen.train.batches(10)), next(forty.train.batches(24))
    for i, row in enumerate(sixteen.train._index.inputs.tolist()):
        assert torch.equal(batch.inputs[i], whole.inputs[row])
        assert all(batch.targets[name][i] == whole.targets[name][row] for name in benchmarks.SIXTEEN)
    with pytest.raises(ValueError, match="25 images for training are 25, and there are 24"):
        data.load("celeba", root=root("celeba"), train=25)
    assert set(next(nine.train.batches(2)).targets) == set(benchmarks.ATTRIBUTES)
    with pytest.raises(ValueError, match="Unknown attributes 'ten'"):
        data.load("celeba", root=root("celeba"), attributes="ten")


def test_celeba_labels_and_parts_are_the_lists(root):
    source = Path(root("celeba")) / "samples" / "celeba"
    lines = (source / "list_attr_celeba.txt").read_text().splitlines()
    assert "  1" in lines[2] and " -1" in lines[3]  # several blanks
    problem = data.load("celeba", root=root("celeba"), attributes="forty")
    rows = {"train": lines[2:26], "val": lines[26:34], "test": lines[34:]}
    for part, own in rows.items():
        batch = next(getattr(problem, part).batches(40))
        for i, line in enumerate(own):
            signs = [int(sign) for sign in line.split()[1:]]
            assert [int(batch.targets[name][i]) for name in benchmarks.FORTY] == [int(sign > 0) for sign in signs]
    image = imread(source / "img_align_celeba" / "000025.jpg")
    assert image.shape == (218, 178, 3)
    assert abs(next(problem.val.batches(1)).inputs.mean() - image.mean() / 255) < 0.01


@pytest.mark.parametrize(("file", "old", "new", "message"), [
    ("list_attr_celeba.txt", "40\n", "41\n", "announces 41 images and has 40: it is cut off"),
    ("list_attr_celeba.txt", "000003.jpg -1", "000003.jpg  2", "line 5: 40 times 1 or -1 must stand behind"),
    ("list_eval_partition.txt", "000040.jpg 2", "000040.jpg 3", "line 40: '000040.jpg 3' is no image with attributes"),
    ("list_eval_partition.txt", "000040.jpg 2", "000041.jpg 2", "line 40: '000041.jpg 2' is no image with attributes"),
])
def test_celeba_lists_that_cannot_be(tmp_path, file, old, new, message):
    script("celeba").sample(tmp_path / "set")
    path = tmp_path / "set" / file
    text = path.read_text()
    if old not in text:
        old, new = old.replace(" -1", "  1"), new
    path.write_text(text.replace(old, new))
    assert message in ran("celeba", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True)


def test_celeba_as_its_page_has_it_and_without_an_account(tmp_path):
    script("celeba").sample(tmp_path / "set")
    places = {"Img": "img_align_celeba", "Anno": "list_attr_celeba.txt", "Eval": "list_eval_partition.txt"}
    for folder, name in places.items():
        (tmp_path / "set" / folder).mkdir()
        (tmp_path / "set" / name).rename(tmp_path / "set" / folder / name)
    assert "24 train, 8 val, 8 test" in ran("celeba", "--root", tmp_path / "to", "--source", tmp_path / "set")
    assert "asks for an account: get img_align_celeba.zip" in ran("celeba", "--root", tmp_path / "other", fails=True)
    (tmp_path / "set" / "Img" / "img_align_celeba" / "000007.jpg").unlink()
    said = ran("celeba", "--root", tmp_path / "other", "--source", tmp_path / "set", fails=True)
    assert "000007.jpg is missing, one of 1" in said


# --- SARCOS -----------------------------------------------------------------------------------------------------

def rows_of(split):
    return [row.tobytes() for row in torch.cat([split.inputs, *split.targets.values()], 1).numpy()]


def test_the_sarcos_leak_is_counted_and_blocks_have_none(root, tmp_path):
    assert "295 of 300 test rows stand in the training file" in ran("sarcos", "--sample", "--root", tmp_path)
    blocks = data.load("sarcos", root=root("sarcos"))
    own = {split: set(rows_of(getattr(blocks, split))) for split in ("train", "val", "test")}
    assert sum(len(rows) for rows in own.values()) == len(set.union(*own.values())) == 3_000 + 5
    published = data.load("sarcos", root=root("sarcos"), split="published", proportion=0.7)
    assert [len(s) for s in (published.train, published.val, published.test)] == [2_100, 300, 300]
    leaked = set(rows_of(published.train)) | set(rows_of(published.val))
    assert sum(row in leaked for row in rows_of(published.test)) > 200  # what it is warned of


def test_sarcos_blocks_keep_neighbours_together(root):
    source = loadmat(Path(root("sarcos")) / "samples" / "sarcos" / "sarcos_inv.mat")["sarcos_inv"]
    problem = data.load("sarcos", root=root("sarcos"))
    raw = {part: sets.read("sarcos", root("sarcos"))[part] for part in ("train", "test")}
    assert np.allclose(next(raw["train"].batches(3_000)).inputs.numpy(), source[:, :21], atol=1e-6)
    train = problem.train.inputs
    assert abs(train.mean(0)).max() < 1e-5 and abs(train.std(0) - 1).max() < 1e-2
    assert abs(problem.train.targets["torque_7"].std() - 1) < 1e-2 and source[:, 27].std() > 3
    assert len(problem.val) % 256 in (0, 3_005 % 256) and len(problem.test) % 256 in (0, 3_005 % 256)


def test_sarcos_by_seed_share_and_number(root):
    first, again, other = (data.load("sarcos", root=root("sarcos"), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.train.inputs, again.train.inputs) and not torch.equal(first.test.inputs[:99],
                                                                                   other.test.inputs[:99])
    few = data.load("sarcos", root=root("sarcos"), samples=200, proportion=0.5)
    assert [len(s) for s in (few.train, few.val, few.test)] == [100, 20, 80]
    for options, message in (({"split": "lot"}, "Unknown split 'lot'"), ({"proportion": 0.9}, "below 0.9"),
                             ({"proportion": 0.01}, "leaves a split empty"), ({"samples": 10_000}, "which has")):
        with pytest.raises(ValueError, match=message):
            data.load("sarcos", root=root("sarcos"), **options)


@pytest.mark.parametrize(("content", "message"), [
    (b"half", "is cut off, or another file"), (None, "There is no"),
    ({"sarcos_inv": np.ones((3, 27))}, "of .3, 27"),
    ({"other": np.ones((3, 28))}, "another file"), ({"sarcos_inv": np.full((3, 28), np.nan)}, "not rows of 28"),
])
def test_sarcos_files_that_cannot_be(tmp_path, content, message):
    script("sarcos").sample(tmp_path / "set")
    path = tmp_path / "set" / "sarcos_inv.mat"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        savemat(path, content)
    assert re.search(message, ran("sarcos", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True))


def test_sarcos_in_the_other_byte_order(tmp_path, root):
    """As published."""
    table = np.arange(60 * 28, dtype=">f8").reshape(60, 28)
    for name, rows in (("sarcos_inv", table), ("sarcos_inv_test", table[::10])):
        write_big_endian(tmp_path / f"{name}.mat", name, rows)
    assert loadmat(tmp_path / "sarcos_inv.mat")["sarcos_inv"].dtype.byteorder == ">"
    assert "6 of 6 test rows" in ran("sarcos", "--root", tmp_path / "to", "--source", tmp_path)
    train = sets.read("sarcos", tmp_path / "to")["train"]
    assert torch.equal(next(train.batches(60)).inputs, torch.arange(60 * 28.0).reshape(60, 28)[:, :21])


def write_big_endian(path: Path, name: str, table: np.ndarray) -> None:
    """A MATLAB file of version 4: a header of five numbers, 1000 for big-endian reals, the name, the columns."""
    with open(path, "wb") as file:
        file.write(np.array([1000, *table.shape, 0, len(name) + 1], dtype=">i4").tobytes())
        file.write(name.encode() + b"\0" + table.astype(">f8").tobytes(order="F"))


# --- Taskonomy ---------------------------------------------------------------------------------------------------

def test_sixteen_bits_stay_sixteen_and_void_is_void(root):
    source = Path(root("taskonomy")) / "samples" / "taskonomy"
    batch = next(data.load("taskonomy", root=root("taskonomy")).test.batches(1))  # collierville, point 9
    files = {domain: source / domain / "taskonomy" / "collierville" / f"point_9_view_0_domain_{name}.png"
             for domain, name in (("depth_zbuffer", "depth_zbuffer"), ("keypoints2d", "keypoints2d"),
                                  ("segment_semantic", "segmentsemantic"), ("normal", "normal"))}
    pixels = {domain: imread(path)[1::2, 1::2] for domain, path in files.items()}  # the middle of each new pixel
    depth = batch.targets["depth"][0, 0].numpy()
    assert len(np.unique(pixels["depth_zbuffer"])) > 256  # more than eight bits hold
    assert np.isnan(depth[:2]).all() and np.allclose(depth[2:], pixels["depth_zbuffer"][2:] / 512, rtol=1e-3)
    assert np.allclose(batch.targets["keypoints"][0, 0].numpy(), (pixels["keypoints2d"] - 50.0) / 100,
                       rtol=1e-3, atol=1e-3)
    assert np.array_equal(batch.targets["segmentation"][0].numpy(), pixels["segment_semantic"].astype(int) - 1)
    normals = batch.targets["normals"][0]
    assert normals[:, :, :2].isnan().all()
    assert torch.allclose(normals[:, :, 2:].norm(dim=0), torch.ones(24, 22), atol=1e-3)


def test_eight_bits_in_place_of_sixteen_are_refused(tmp_path):
    script("taskonomy").sample(tmp_path / "set")
    path = next((tmp_path / "set" / "depth_zbuffer" / "taskonomy" / "allensville").iterdir())
    imsave(path, (imread(path) >> 8).astype(np.uint8), check_contrast=False)
    said = ran("taskonomy", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True)
    assert "has pixels of uint8, and must have uint16" in said


def test_views_that_lack_a_domain_are_counted_and_other_packaging_is_read(tmp_path):
    source = tmp_path / "set"
    script("taskonomy").sample(source)
    for domain in list(source.iterdir()):
        for building in (domain / "taskonomy").iterdir():
            (source / building.name).mkdir(exist_ok=True)
            shutil.copytree(building, source / building.name / domain.name)
        shutil.rmtree(domain)
    said = ran("taskonomy", "--root", tmp_path / "to", "--source", source)
    assert "onaga: 1 of 4 views lack a domain, and are left out" in said and "9 train, 6 val" in said
    for building in source.iterdir():
        shutil.rmtree(building / "edge_texture")
    said = ran("taskonomy", "--root", tmp_path / "other", "--source", source, fails=True)
    assert "No view of allensville has all domains; there is no edge_texture" in said
    assert "has nothing of allensville" in ran("taskonomy", "--root", tmp_path / "x", "--source", tmp_path, fails=True)
    assert "is given to those who agree" in ran("taskonomy", "--root", tmp_path / "x", fails=True)


# --- CIFAR-100 ---------------------------------------------------------------------------------------------------

def test_each_superclass_is_a_task_on_its_own_images(root):
    source = Path(root("cifar100_mtl")) / "samples" / "cifar100_mtl"
    table = np.fromfile(source / "test.bin", np.uint8).reshape(-1, 3_074)
    problem = data.load("cifar100_mtl", root=root("cifar100_mtl"), holdout=0.2)
    batch = next(problem.test.batches(5))
    for label, name in enumerate(cifar100.SUPERCLASSES):
        own = table[table[:, 0] == label]
        pixels = (batch.inputs[name] * 255).round().to(torch.uint8).numpy()
        assert np.array_equal(pixels.reshape(5, -1), own[:, 2:])  # red, green, blue
        assert batch.targets[name].tolist() == own[:, 1].argsort().argsort().tolist()  # one image of each class
        assert [split.count(name) for split in (problem.train, problem.val)] == [8, 2]
    assert not set(problem.train._index.inputs["fish"].tolist()) & set(problem.val._index.inputs["fish"].tolist())


@pytest.mark.parametrize(("harm", "message"), [
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), "no whole number of records of 3,074"),
    (lambda path: path.unlink(), "There is no .*test.bin|has no train.bin"),
    (lambda path: path.write_bytes(bytes(3_073 * 10)), "no whole number of records"),  # CIFAR-10's
    (lambda path: path.write_bytes(b"\x20" + path.read_bytes()[1:]), "has the label 32, and there are 20 superclasses"),
    (lambda path: path.write_bytes(bytes([0, 99]) + path.read_bytes()[2:]), "classes of|one of class"),
])
@pytest.mark.parametrize("part", ["train", "test"])
def test_cifar100_files_that_cannot_be(tmp_path, harm, message, part):
    script("cifar100_mtl").sample(tmp_path / "set")
    harm(tmp_path / "set" / f"{part}.bin")
    assert re.search(message, ran("cifar100_mtl", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True))


@pytest.mark.parametrize("holdout", [0, 1, -0.5, True])
def test_cifar100_holds_out_a_share(root, holdout):
    with pytest.raises(ValueError, match="above 0 and below 1"):
        data.load("cifar100_mtl", root=root("cifar100_mtl"), holdout=holdout)


# --- MultiMNIST --------------------------------------------------------------------------------------------------

def test_canvases_show_the_digits_that_their_groups_and_labels_name(root):
    source = Path(root("multimnist")) / "samples" / "multimnist"
    digits, labels = idx.read_set(source, "test")
    test = data.load("multimnist", root=root("multimnist")).test
    batch = next(test.batches(30))
    for canvas, (left, right), *said in zip(batch.inputs, test.groups.tolist(), batch.targets["left"],
                                            batch.targets["right"], strict=True):
        pixels = (canvas[0] * 255).round().to(torch.uint8).numpy()
        assert [labels[left], labels[right]] == said and left != right
        assert np.array_equal(pixels[:8, :28], digits[left][:8]) and np.array_equal(pixels[-8:, 8:], digits[right][-8:])


def zipped(content: bytes) -> bytes:
    """Without the time in it, which would give the tests other names in each process."""
    return gzip.compress(content, mtime=0)


def labels_of(number: int) -> bytes:
    return zipped(b"\0\0\x08\x01" + number.to_bytes(4, "big") + bytes(number))


@pytest.mark.parametrize(("name", "content", "message"), [
    ("train-images-idx3-ubyte", None, "There is neither .*train-images-idx3-ubyte nor"),
    ("train-images-idx3-ubyte", b"half", "is cut off, or not packed with gzip"),
    ("train-images-idx3-ubyte", zipped(b"\0\0\x08\x03" + bytes(99))[:-20], "is cut off, or not packed with gzip"),
    ("train-images-idx3-ubyte", zipped(bytes(9))[:10] + b"\xff" * 20, "is cut off, or not packed with gzip"),
    ("t10k-labels-idx1-ubyte", zipped(bytes(8)), "is no IDX file of bytes"),
    ("t10k-labels-idx1-ubyte", zipped(b""), "is no IDX file of bytes"),
    ("t10k-labels-idx1-ubyte", labels_of(30), "of all ten digits"),
    ("t10k-labels-idx1-ubyte", labels_of(3), "they do not belong together"),
])
def test_idx_files_that_cannot_be(tmp_path, name, content, message):
    script("multimnist").sample(tmp_path / "set")
    path = tmp_path / "set" / f"{name}.gz"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    assert re.search(message, ran("multimnist", "--root", tmp_path / "to", "--source", tmp_path / "set", fails=True))


# --- the table ---------------------------------------------------------------------------------------------------

def test_every_script_has_its_row_in_the_guide():
    text = (FOLDER.parent / "book" / "guides" / "published_sets.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)\.py` \| [\d.]+ [MG]B", text, re.MULTILINE))
    scripts = {path.stem for path in FOLDER.glob("*.py")} - {"mt10_sac"}  # which fetches no set
    assert rows == {name: name for name in scripts} and set(SETS) | {"visda2017"} == scripts
