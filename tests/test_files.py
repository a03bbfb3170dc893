"""Files appear whole or not at all; states come back as they were; parts start the same everywhere."""

import errno
import hashlib
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtlcourse import files
from tests.folders import full_disk, names_in

# --- files -----------------------------------------------------------------------------------------

def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "new" / "folder" / "note.txt"
    files.write_text(path, "first")
    files.write_text(path, "zweite Fassung, länger")
    assert path.read_text(encoding="utf-8") == "zweite Fassung, länger"
    assert names_in(path.parent) == ["note.txt"]
    assert path.stat().st_mode & 0o777 == 0o644


def test_whoever_reads_the_former_file_goes_on_reading_it(tmp_path):
    path = tmp_path / "note.txt"
    files.write_text(path, "the former content")
    with open(path) as reader:
        files.write_text(path, "new")
        assert reader.read() == "the former content"  # it was replaced, not written over


def test_json_keeps_its_order_and_its_numbers(tmp_path):
    files.write_json(tmp_path / "a.json", {"b": [1, None], "a": {"x": 0.1 + 0.2, "c": float("inf")}})
    assert (tmp_path / "a.json").read_text() == (
        '{\n "b": [\n  1,\n  null\n ],\n "a": {\n  "x": 0.30000000000000004,\n  "c": Infinity\n }\n}\n')


def test_a_full_disk_leaves_what_was_there(tmp_path):
    path = tmp_path / "note.txt"
    files.write_text(path, "precious")
    with full_disk(), pytest.raises(OSError, match="could not write .*note.txt .*unchanged; free some space"):
        files.write_text(path, "x" * 5000)
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["note.txt"]


@pytest.mark.parametrize(("number", "remedy"), [
    (errno.EACCES, "choose a folder that you may write to"), (errno.EROFS, "choose a folder that you may write to"),
    (errno.EISDIR, "a folder where a file is"), (errno.ENOSPC, "free some space"), (errno.EIO, "free some space")])
def test_the_remedy_fits_what_went_wrong(tmp_path, number, remedy):
    wanted = f"could not write .*unchanged; .*{remedy}.*, then run again"
    with pytest.raises(OSError, match=wanted), files.writing(tmp_path):
        raise OSError(number, "no")


def test_one_at_a_time(tmp_path):
    inside, together = [], []

    def work(number):
        with files.alone(tmp_path / "deep" / "lock"):
            inside.append(number)
            time.sleep(0.01)
            together.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [1] * 5


def test_a_folder_that_cannot_be_is_named(tmp_path):
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(OSError, match="could not write .*occupied/note.txt .*a file stands where a folder is needed"):
        files.write_text(tmp_path / "occupied" / "note.txt", "text")
    assert (tmp_path / "occupied").read_text() == "a file"


def test_an_interrupted_write_leaves_what_was_there(tmp_path):
    def half(temporary):
        temporary.write_text("half a sent")
        raise KeyboardInterrupt

    path = tmp_path / "note.txt"
    files.write_text(path, "precious")
    with pytest.raises(KeyboardInterrupt):
        files.atomic(path, half)
    assert path.read_text() == "precious"
    assert names_in(tmp_path) == ["note.txt"]


# --- hashes ----------------------------------------------------------------------------------------

PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3))


@settings(max_examples=40)
@given(st.dictionaries(st.text(), PLAIN, max_size=4))
def test_the_order_of_keys_does_not_matter_to_a_hash(config):
    backwards = dict(reversed(config.items()))
    assert files.config_hash(config) == files.config_hash(backwards)
    assert files.config_hash({**config, "one more": 1}) != files.config_hash({**config, "one more": 2})


def test_config_hashes_are_the_same_on_every_machine():
    expected = hashlib.sha256(b'{"method":"hps","seed":0}').hexdigest()[:16]
    assert files.config_hash({"seed": 0, "method": "hps"}) == expected


def test_content_hashes_tell_values_shapes_dtypes_and_order_apart():
    a = torch.arange(6.0)
    variants = [[a], [a + 1], [a.reshape(2, 3)], [a.reshape(2, 3).T], [a.double()], [a.bfloat16()], [a.bool()], [a, a],
                [a[:3], a[3:]], [a[3:], a[:3]], [torch.tensor(1.0)], [torch.zeros(0)], [torch.zeros(0, 3)], []]
    assert len({files.content_hash(tensors) for tensors in variants}) == len(variants)
    assert files.content_hash([a.reshape(2, 3).T]) == files.content_hash([a.reshape(2, 3).T.contiguous()])
    assert len(files.content_hash([a])) == 16


# --- nested state --------------------------------------------------------------------------------------

TENSORS = st.sampled_from([
    torch.tensor(0.1), torch.arange(6).reshape(2, 3), torch.rand(4, 3, generator=torch.Generator().manual_seed(0)).T,
    torch.zeros(0, 2), torch.tensor([True, False]), torch.tensor([1.0, float("nan")], dtype=torch.bfloat16),
    torch.rand(3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))])
LEAVES = TENSORS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)
STATES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3)
                      | st.dictionaries(st.text(alphabet="a/0", max_size=3) | st.integers(0, 2), inner, max_size=3))


def same(a, b):
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a.nan_to_num(7), b.nan_to_num(7))
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and (a == b or a != a and b != b)


@settings(max_examples=40)
@given(STATES)
def test_a_state_comes_back_as_it_was(state):
    with tempfile.TemporaryDirectory() as folder:
        files.save_state(Path(folder) / "state", state)
        assert same(state, files.load_state(Path(folder) / "state"))


def test_keys_that_look_alike_are_kept_apart(tmp_path):
    state = {"a/b": torch.tensor(1), "a": {"b": torch.tensor(2)}, 0: torch.tensor(3), "0": torch.tensor(4)}
    files.save_state(tmp_path / "s", state)
    assert same(state, files.load_state(tmp_path / "s"))


def test_tensors_that_share_memory_come_back(tmp_path):
    a = torch.rand(3, 3)
    files.save_state(tmp_path / "s", {"all": a, "row": a[1], "turned": a.T})
    state = files.load_state(tmp_path / "s")
    assert torch.equal(state["all"], a) and torch.equal(state["row"], a[1]) and torch.equal(state["turned"], a.T)


def test_no_state_is_none(tmp_path):
    assert files.load_state(tmp_path / "nothing") is None


def test_what_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(TypeError, match="/model/0.*set is neither a tensor nor plain data"):
        files.save_state(tmp_path / "s", {"model": [{1, 2}]})
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("crash", ["before the tensors", "between the two", "before cleaning up"])
def test_a_crash_leaves_the_former_pair_or_the_new_one(tmp_path, monkeypatch, crash):
    def stop(*args, **kwargs):
        raise KeyboardInterrupt

    path = tmp_path / "state"
    files.save_state(path, {"epoch": 1, "weights": torch.ones(3)})
    with monkeypatch.context() as patch:
        owner, name = {"before the tensors": (files, "atomic"), "between the two": (files, "write_json"),
                       "before cleaning up": (Path, "unlink")}[crash]
        patch.setattr(owner, name, stop)
        with pytest.raises(KeyboardInterrupt):
            files.save_state(path, {"epoch": 2, "weights": torch.zeros(3)})
    state = files.load_state(path)
    assert (state["epoch"], state["weights"].tolist()) in [(1, [1, 1, 1]), (2, [0, 0, 0])]
    assert (state["epoch"] == 2) == (crash == "before cleaning up")
    files.save_state(path, {"epoch": 3, "weights": torch.ones(1)})
    assert len(names_in(tmp_path)) == 2  # and the next one cleans up behind it


def test_a_full_disk_leaves_the_former_state(tmp_path):
    path = tmp_path / "state"
    files.save_state(path, {"weights": torch.ones(3)})
    before = names_in(tmp_path)
    with full_disk(), pytest.raises(OSError, match="could not write .*state-.*safetensors .*unchanged"):
        files.save_state(path, {"weights": torch.zeros(2000)})
    assert files.load_state(path)["weights"].tolist() == [1, 1, 1]
    assert names_in(tmp_path) == before


def test_states_of_similar_names_leave_each_other_alone(tmp_path):
    for name in ("hps", "hps-2", "hps[ew]"):
        files.save_state(tmp_path / name, {"name": name, "weights": torch.full((2,), len(name))})
    files.save_state(tmp_path / "hps", {"name": "hps", "weights": torch.zeros(2)})
    files.save_state(tmp_path / "hps[ew]", {"name": "hps[ew]", "weights": torch.zeros(2)})
    assert files.load_state(tmp_path / "hps-2")["weights"].tolist() == [5, 5]
    assert len(names_in(tmp_path)) == 6


# --- seeds -----------------------------------------------------------------------------------------

def test_one_call_seeds_torch_and_numpy():
    def draw():
        return torch.rand(1).item(), np.random.rand()

    files.seed_everything(5)
    first = draw()
    assert draw() != first
    files.seed_everything(5)
    assert draw() == first
    files.seed_everything(2**40)  # numpy's own seeds end at 2^32
    assert draw() != first


def test_a_part_depends_on_seed_and_name_only():
    def build(name, draws=0):
        torch.rand(draws)
        with files.part(name):
            return torch.nn.Linear(3, 2).weight.tolist()

    files.seed_everything(3)
    first = build("head.left")
    assert build("head.left", draws=100) == first
    assert build("head.right") != first
    files.seed_everything(4)
    assert build("head.left") != first


def test_a_part_draws_nothing_outside():
    files.seed_everything(3)
    expected = torch.rand(2).tolist()
    files.seed_everything(3)
    with files.part("anything"):
        torch.rand(50)
    assert torch.rand(2).tolist() == expected
    assert torch.initial_seed() == 3


@given(st.integers(0, 2**40), st.text())
def test_derived_seeds_suit_torch_and_numpy(seed, name):
    derived = files.derived_seed(seed, name)
    torch.Generator().manual_seed(derived)
    np.random.default_rng(derived)
    assert derived == files.derived_seed(seed, name)


# --- names -----------------------------------------------------------------------------------------

def test_an_unknown_name_gets_the_known_ones_nearest_first():
    message = files.unknown("problem", "multidigit", ["rooms", "multidigits", "cifar_mtl", "digits"])
    assert message == "Unknown problem 'multidigit'. Known: multidigits, digits, cifar_mtl, rooms."
    assert files.unknown("thing", "x", iter(["b", "a"])) == "Unknown thing 'x'. Known: a, b."


def test_nothing_in_the_package_unpickles():
    source = "".join(path.read_text(encoding="utf-8") for path in Path(files.__file__).parent.rglob("*.py"))
    assert not [word for word in ("pickle.load", "torch.load(", "allow_pickle=True", "torch.save(") if word in source]


# --- numbers ---------------------------------------------------------------------------------------

@pytest.mark.parametrize(("value", "least", "whole", "number"), [
    (1, 1, True, True), (0, 1, False, True), (-3, -3, True, True), (10**30, 0, True, True), (True, 0, False, False),
    (False, 0, False, False), (1.0, 0, False, True), (float("nan"), 0, False, True), (float("inf"), 0, False, True),
    ("1", 0, False, False), (None, 0, False, False), ([1], 0, False, False), (torch.tensor(1), 0, False, False)])
def test_what_is_a_number(value, least, whole, number):
    assert (files.is_whole(value, least), files.is_number(value)) == (whole, number)
