"""BERT as a stage, against transformers' own, and what the encoder refuses."""

import math
import sys

import pytest
import torch
from torch import nn

from mtlcourse import data, encoders, methods, models
from mtlcourse.encoders.language import PlaceDecoder, place_decoder
from mtlcourse.tasks import Problem, TensorSplit
from mtlcourse.training import evaluate

SMALL = {"name": "bert", "layers": 2, "vocabulary": 30, "width": 8, "blocks": 2, "heads": 2, "positions": 9}


class LookUp(nn.Module):
    """What a first stage that looks words up says of itself."""

    takes = torch.long

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 3)

    def forward(self, x):
        return self.table(x)


# --- without the extra ------------------------------------------------------------------------------------------

def test_a_stage_says_what_it_takes():
    encoder = encoders.StagedEncoder([LookUp(), nn.Linear(3, 2)], (7,))
    assert encoder.dtypes == [torch.long, torch.float32, torch.float32] and encoder.out_shape == (7, 2)
    with pytest.raises(ValueError, match="Stage 1 of the encoder takes torch.int64, and is given torch.float32"):
        encoders.StagedEncoder([LookUp()], (7,), dtype=torch.float32)
    with pytest.raises(ValueError, match="Stage 2 of the encoder takes torch.int64, and is given torch.float32"):
        encoders.StagedEncoder([nn.Linear(7, 7), LookUp()], (7,))


def test_one_prediction_for_each_place():
    task = data.tagging("words", ["A", "B", "C"])
    head = place_decoder(task, (7, 4), (7,))
    assert isinstance(head, PlaceDecoder) and head(torch.zeros(2, 7, 4)).shape == (2, 3, 7)
    assert head(torch.arange(56.0).reshape(2, 7, 4))[1, :, 3].equal(head.layer(torch.arange(40.0, 44.0)))
    assert not isinstance(place_decoder(data.binary("all"), (7, 4), (7,)), PlaceDecoder)


def test_a_window_is_a_map_of_the_words_around_a_place():
    torch.manual_seed(0)
    encoder = encoders.build({"name": "window", "vocabulary": 9, "widths": [4, 3], "reach": 1}, (5,))
    first, words = encoder.stages[0], torch.tensor([[3, 8, 1, 2, 0]])
    vectors = first.vectors(words)[0].tolist()
    around = torch.tensor([vectors[0], vectors[1], vectors[2]])  # of the place in the middle: place 1
    expected = (first.over.weight * around.T).sum((1, 2)) + first.over.bias
    assert encoder(words, last=1)[0, 1].allclose(expected.relu(), atol=1e-6)
    assert encoder.shapes == [(5,), (5, 4), (5, 3)] and encoders.size(encoder) == 9 * 4 + 4 * 4 * 3 + 4 + 4 * 3 + 3
    assert encoder(words).allclose(encoder.stages[1](encoder(words, last=1)))


@pytest.mark.parametrize("reach", [0, 1, 3])
def test_behind_the_end_of_a_sentence_nothing_counts(reach):
    encoder = encoders.build({"name": "window", "vocabulary": 9, "widths": [4, 3], "reach": reach}, (8,))
    words = torch.randint(1, 9, (6, 3), generator=torch.Generator().manual_seed(reach))
    padded = torch.cat([words, torch.zeros(6, 5, dtype=torch.long)], 1)
    assert encoder(padded)[:, :3].allclose(encoder(words), atol=1e-6)
    changed = words.clone()
    changed[:, 0] = changed[:, 0] % 8 + 1  # another word, but no padding: it counts for places within reach only
    differs = (encoder(changed, last=1) - encoder(words, last=1)).abs().amax((0, 2)) > 1e-6
    assert not differs[reach + 1 :].any() and differs[0]


@pytest.mark.parametrize(("options", "shape", "said"), [
    ({}, (3, 8, 8), r"'window' needs sentences, whole numbers of shape \(places,\)"),
    ({"widths": []}, (8,), "at least one width"), ({"widths": [4, 0]}, (8,), r"widths=\[4, 0\]"),
    ({"vocabulary": 0}, (8,), "vocabulary=0"), ({"reach": -1}, (8,), "reach=-1")])
def test_what_a_window_refuses(options, shape, said):
    with pytest.raises(ValueError, match=said):
        encoders.build({"name": "window", "vocabulary": 9, **options}, shape)


def test_without_the_extra_a_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs transformers.*text extra: pip install .*mtlcourse\[text\]"):
        encoders.build(SMALL, (9,))


@pytest.mark.parametrize(("spec", "shape", "error", "said"), [
    ({}, (3, 8, 8), ValueError, r"needs sentences, whole numbers of shape \(places,\)"),
    ({"layers": -1}, (9,), ValueError, "layers cannot be negative"),
    ({"heads": 3}, (9,), ValueError, "width must be a multiple of the heads"),
    ({"weights": "nowhere"}, (9,), FileNotFoundError, "There is no config.json in nowhere")])
def test_what_is_refused(spec, shape, error, said):
    with pytest.raises(error, match=said):
        encoders.build({**SMALL, **spec}, shape)


def test_a_folder_without_weights_or_of_another_model(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    with pytest.raises(FileNotFoundError, match="There is no model.safetensors"):
        encoders.build({"name": "bert", "weights": str(tmp_path)}, (9,))
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="describes a 'gpt2'"):
        encoders.build({"name": "bert", "weights": str(tmp_path)}, (9,))


def words(length=6, classes=3, encoder=None):
    """Two tasks on sentences of their own, with an encoder that looks words up and answers place by place."""
    generator = torch.Generator().manual_seed(0)
    tasks = [data.tagging(name, [f"T{n}" for n in range(classes)]) for name in ("web", "wiki")]
    inputs = {task.name: torch.randint(1, 5, (8, length), generator=generator) for task in tasks}
    split = TensorSplit(inputs, {name: x % classes for name, x in inputs.items()})
    stages = [LookUp(), nn.Sequential(nn.Linear(3, 3), nn.ReLU())]
    encoder = encoder or encoders.StagedEncoder(stages, (length,), place_decoder)
    return Problem("words", tasks, *[split] * 3, (length,), encoder)


@pytest.mark.parametrize("method", [
    "stl", "hps", "dsmtl-il", "dsmtl-jl", "cross-stitch", "dmtrl", "tnrmtl", "mrn", "rotograd", "maxroam", "tree",
    "dsmtl-al", "conal", "conal-pro", "ltb", "bmtas", "adashare", "auxilearn", "hps+pcgrad", "dsmtl-jl+mamg"])
def test_methods_that_take_places(method):
    found = methods.run(method, words(), budget="smoke", progress=False).metrics
    assert all(math.isfinite(value) for values in found.values() for value in values.values())


@pytest.mark.parametrize(("method", "said"), [
    ("mmoe", "samples are whole numbers that are looked up"), ("cgc", "whole numbers that are looked up"),
    ("ple", "whole numbers that are looked up"), ("nddr", "NDDR fuses vectors and maps"),
    ("mtl-nas", "MTL-NAS fuses vectors and maps"), ("mtan", "MTAN needs maps"), ("afa", "AFA needs maps"),
    ("tsn", "decodes dense tasks from the maps"), ("srdml", "predicts every pixel"), ("lasso", "predicts every pixel"),
    ("darts", "Cells need images")])
def test_methods_that_do_not_say_so(method, said):
    with pytest.raises(ValueError, match=said):
        methods.run(method, words(), budget="smoke", progress=False)


# --- with it ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers", reason="needs the text extra")


@pytest.fixture(scope="module")
def folder(transformers, tmp_path_factory):
    """A tiny BERT with a pooler and its tokenizer, as they are published."""
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("bert")
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "play", "##ing", "##s", "he", "."]
    (path / "vocab.txt").write_text("\n".join(pieces))
    config = transformers.BertConfig(vocab_size=len(pieces), hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=12)
    config.save_pretrained(path)
    net = transformers.BertModel(config)
    save_file({f"bert.{name}".replace("LayerNorm.weight", "LayerNorm.gamma"): tensor.contiguous()
               for name, tensor in net.state_dict().items()}, path / "model.safetensors")
    return path, net.eval()


def test_the_stages_give_what_bert_gives(transformers):
    encoder = encoders.build(SMALL, (9,)).eval()
    words = torch.randint(1, 30, (4, 9), generator=torch.Generator().manual_seed(0))
    words[1, 4:] = words[2, 1:] = 0
    net = encoder.stages[0].net
    with torch.no_grad():
        expected = net(input_ids=words, attention_mask=(words != 0).long()).last_hidden_state
        there = words != 0
        assert (encoder(words, last=1) - expected)[there].abs().max() < 1e-6
        assert encoder.shapes == [(9,), (9, 8), (9, 8), (9, 8)] and encoder.points == 4
        assert encoder(words).equal(encoder.stages[2](encoder.stages[1](encoder(words, last=1))))


@pytest.mark.parametrize("places", [1, 4, 8])
def test_padding_changes_no_other_place(transformers, places):
    encoder = encoders.build(SMALL, (9,)).eval()
    words = torch.randint(1, 30, (3, places), generator=torch.Generator().manual_seed(1))
    padded = torch.cat([words, torch.zeros(3, 9 - places, dtype=torch.long)], 1)
    with torch.no_grad():
        assert (encoder(padded)[:, :places] - encoder(words)).abs().max() < 1e-6
        assert encoder(torch.zeros(2, 9, dtype=torch.long)).isfinite().all()


def test_the_printed_size(transformers):
    with torch.device("meta"):
        encoder = encoders.build({"name": "bert"}, (128,))
    assert encoders.size(encoder.stages[0]) == 177_262_848 and len(encoder.stages) == 6
    assert methods.count_parameters("hps", "xtreme(net=paper)") == 177_262_848 + 5 * 768 * 769 + 4 * 17 * 769


def test_weights_from_a_folder(folder):
    path, net = folder
    encoder = encoders.build({"name": "bert", "layers": 1, "weights": str(path)}, (6,)).eval()
    words = torch.tensor([[2, 5, 6, 8, 3, 0]])
    with torch.no_grad():
        expected = net(input_ids=words, attention_mask=(words != 0).long()).last_hidden_state
        assert (encoder(words, last=1) - expected)[:, :5].abs().max() < 1e-6
    with pytest.raises(ValueError, match="13 places, and this BERT has 12 positions: load the problem with length=12"):
        encoders.build({"name": "bert", "weights": str(path)}, (13,))
    with torch.device("meta"):
        assert encoders.build({"name": "bert", "weights": str(path)}, (6,)).out_shape == (6, 8)


def test_weights_of_another_model(folder, tmp_path):
    from safetensors.torch import load_file, save_file

    path, _ = folder
    (tmp_path / "config.json").write_text((path / "config.json").read_text())
    tensors = load_file(path / "model.safetensors")
    tensors.pop("bert.encoder.layer.1.output.dense.bias")
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="lacks 1 of .* such as 'encoder.layer.1.output.dense.bias'"):
        encoders.build({"name": "bert", "weights": str(tmp_path)}, (6,))


def test_a_problem_with_a_tokenizer(folder, tmp_path):
    path, _ = folder
    for part in ("train", "dev", "test"):
        for language in ("en", "zh"):
            (tmp_path / f"{language}-{part}").write_text(f"{language}:he\tO\n{language}:playings\tB-PER\n"
                                                         f"{language}:.\tO\n\n" * 2)
    problem = data.xtreme("ner", str(tmp_path), ["en", "zh"], length=8, weights=str(path))
    assert problem.train.inputs["en"][0].tolist() == [2, 8, 5, 6, 7, 9, 3, 0]
    assert problem.train.targets["en"][0].tolist() == [-1, 0, 5, -1, -1, 0, -1, -1]
    scores = evaluate(models.HPS(problem), problem)
    assert set(scores["en"]) == {"accuracy", "chunk_f1", "loss"}
    with pytest.raises(FileNotFoundError, match="There is no tokenizer in"):
        data.xtreme("ner", str(tmp_path), ["en"], length=8, weights=str(tmp_path))


def test_equal_seeds_give_equal_weights(transformers):
    problem = data.describe("tagged", length=9, words=28, net="small")
    torch.manual_seed(0)
    one = models.HPS(problem)
    torch.manual_seed(0)
    other = models.HPS(problem)
    assert all(a.equal(b) for a, b in zip(one.parameters(), other.parameters(), strict=True))
