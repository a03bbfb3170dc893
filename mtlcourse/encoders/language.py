"""Encoders of sentences: a window that slides over them, or BERT, as one stage, then fully connected ones.

Imports `files`, `tasks`, its folder's `decoders`, `staged`, and transformers inside a function.
"""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from ..files import optional
from ..tasks import Task
from .decoders import decoder
from .staged import StagedEncoder

CONFIG, WEIGHTS = "config.json", "model.safetensors"
OLD = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}  # names in the first published files


class Words(nn.Module):
    """transformers' `BertModel`, without its pooler, from numbers of words or pieces; attends to all that is there.

    padding: the number of an empty place. Nothing attends to one, so that what stands there changes no other place.
    """

    takes = torch.long

    def __init__(self, net: nn.Module, padding: int = 0):
        super().__init__()
        self.net, self.padding = net, padding

    def forward(self, words: Int64[Tensor, "batch places"]) -> Float[Tensor, "batch places width"]:
        there = words != self.padding
        there = there | ~there.any(1, keepdim=True)  # a sentence of nothing attends to that, not to NaN
        # Of four dimensions, because transformers' own masks are made of values, which the meta device does not have.
        mask = there[:, None, None, :].expand(-1, 1, words.shape[1], -1)
        return self.net(input_ids=words, attention_mask=mask).last_hidden_state


class Window(nn.Module):
    """Vectors of words, and one linear map with ReLU of the `2 reach + 1` of them around each place.

    A place with padding, or beyond either end, is a vector of zeros, so that what is behind the end changes nothing.
    """

    takes = torch.long

    def __init__(self, vocabulary: int, width: int, reach: int):
        super().__init__()
        self.vectors = nn.Embedding(vocabulary, width)
        self.over = nn.Conv1d(width, width, 2 * reach + 1, padding=reach)

    def forward(self, words: Int64[Tensor, "batch places"]) -> Float[Tensor, "batch places width"]:
        vectors = self.vectors(words) * (words != 0).unsqueeze(-1)  # 0 is padding
        return self.over(vectors.mT).relu().mT


class PlaceDecoder(nn.Module):
    """One prediction for each place: a linear layer, `(batch, places, width)` to `(batch, out, places)`."""

    def __init__(self, width: int, out_channels: int):
        super().__init__()
        self.layer = nn.Linear(width, out_channels)

    def forward(self, z: Float[Tensor, "batch places width"]) -> Float[Tensor, "batch out places"]:
        return self.layer(z).mT


def place_decoder(task: Task, shape: Sequence[int], input_shape: Sequence[int]) -> nn.Module:
    """The head of `task` on places: `PlaceDecoder` for a dense task, else as everywhere."""
    return PlaceDecoder(shape[-1], task.out_channels) if task.dense and len(shape) == 2 else decoder(
        task, shape, input_shape)


def window(input_shape: Sequence[int], vocabulary: int, widths: Sequence[int] = (48, 48), reach: int = 2
           ) -> StagedEncoder:
    """What a word and its neighbours say: `Window` of the first width, then linear maps with ReLU, on (places,).

    It needs no extra, and a third of the time of a small BERT; words further off than `reach` places do not count.
    vocabulary: how many numbers there are, 0 for padding among them.
    widths: one a stage; the vectors of words have the first.
    Dense tasks get a linear decoder for each place.
    Raises ValueError for no width, sizes below their least, and for inputs that are no row of places.
    Source: R. Collobert et al., Natural Language Processing (Almost) from Scratch, 2011, its window approach, with
    ReLU, and scores of single words only.
    """
    _row_of_places("window", input_shape)
    if not widths or min(vocabulary, *widths) < 1 or reach < 0:
        raise ValueError(f"'window' has vocabulary={vocabulary}, widths={list(widths)} and reach={reach}: it needs at "
                         "least one width, vocabulary and widths of at least 1, and a reach that is not negative.")
    return StagedEncoder([Window(vocabulary, widths[0], reach), *_connected(widths)], input_shape, place_decoder)


def bert(input_shape: Sequence[int], layers: int = 5, weights: str | None = None, vocabulary: int = 119_547,
         width: int = 768, blocks: int = 12, heads: int = 12, inner: int | None = None, positions: int = 512,
         dropout: float = 0.1) -> StagedEncoder:
    """BERT and `layers` fully connected stages (linear, ReLU) of its width, on whole numbers (places,).

    Stage 1 is BERT, so that P = layers + 2. The thesis counts its branch points before and after each fully connected
    layer: its p is ours less 1, and whether tasks at its p = 1 share BERT is not printed; nor what follows a linear
    layer.

    weights: None for new ones, of the sizes below, or a folder with `config.json` and `model.safetensors` of a BERT,
        which has sizes of its own. Nothing is fetched, and nothing is unpickled.
    vocabulary, width, blocks, heads, inner (default: 4 width), positions: sizes; by default those of multilingual BERT,
        the printed one, whose stage has 177,262,848 parameters.  dropout: in BERT, while training.
    Dense tasks get a linear decoder for each place.
    Raises ModuleNotFoundError without transformers, FileNotFoundError for a folder without weights, ValueError for
    weights that are no BERT's, for sizes that do not fit each other, and for inputs that are no row of places, or of
    more places than BERT has positions.
    Source: J. Devlin et al., BERT, 2019; Learning Architecture for Multiple Tasks in Transfer Learning, section 5.3.2.
    """
    sizes = {"vocab_size": vocabulary, "hidden_size": width, "num_hidden_layers": blocks, "num_attention_heads": heads,
             "intermediate_size": 4 * width if inner is None else inner, "max_position_embeddings": positions,
             "hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    _row_of_places("bert", input_shape)
    if layers < 0 or width % heads:
        raise ValueError(f"'bert' has layers={layers}, width={width} and heads={heads}: layers cannot be negative, and "
                         "the width must be a multiple of the heads.")
    net, config = _net(sizes) if weights is None else _loaded(Path(weights))
    if input_shape[0] > config.max_position_embeddings:
        raise ValueError(f"Sentences have {input_shape[0]} places, and this BERT has {config.max_position_embeddings} "
                         f"positions: load the problem with length={config.max_position_embeddings}.")
    return StagedEncoder([Words(net, config.pad_token_id), *_connected([config.hidden_size] * (layers + 1))],
                         input_shape, place_decoder)


def _row_of_places(name: str, input_shape: Sequence[int]) -> None:
    """Raise ValueError for inputs that are no row of places."""
    if len(input_shape) != 1:
        raise ValueError(f"{name!r} needs sentences, whole numbers of shape (places,); this problem has inputs of "
                         f"shape {tuple(input_shape)}.")


def _connected(widths: Sequence[int]) -> list[nn.Module]:
    """The stages behind the first, which gives vectors of the first width."""
    return [nn.Sequential(nn.Linear(*pair), nn.ReLU()) for pair in itertools.pairwise(widths)]


def _net(sizes: dict[str, Any]) -> tuple[nn.Module, Any]:
    """A new BERT, and its configuration."""
    transformers = optional("transformers", "text")
    config = transformers.BertConfig(**sizes)
    return transformers.BertModel(config, add_pooling_layer=False), config


def _loaded(folder: Path) -> tuple[nn.Module, Any]:
    """The BERT whose weights are in `folder`; on the meta device without them."""
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"There is no {name} in {folder}, and weights=FOLDER needs {CONFIG} and {WEIGHTS} "
                                    "of a BERT; weights=None starts from new ones.")
    sizes = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    if sizes.get("model_type") != "bert":
        raise ValueError(f"{folder / CONFIG} describes a {sizes.get('model_type')!r}, and encoder 'bert' loads a "
                         "'bert'.")
    net, config = _net(sizes)
    if next(net.parameters()).device.type != "meta":
        net.load_state_dict(_read(folder / WEIGHTS, set(net.state_dict())))
    return net, config


def _read(path: Path, wanted: set[str]) -> dict[str, Tensor]:
    """The tensors that BERT itself has, of a file that may have more: a pooler, heads of what it was trained on."""
    from safetensors.torch import load_file

    found = {}
    for name, tensor in load_file(path).items():
        own = name.removeprefix("bert.")
        for old, new in OLD.items():
            own = own.replace(old, new)
        found[own] = tensor
    missing = sorted(wanted - set(found))
    if missing:
        raise ValueError(f"{path} lacks {len(missing)} of {len(wanted)} tensors of this BERT, such as {missing[0]!r}: "
                         "it belongs to another model.")
    return {name: found[name] for name in wanted}
