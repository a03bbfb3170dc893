"""Problems whose tasks are languages, or styles of one: each has sentences of its own, all have the same tags.

Imports `files`, `tasks`, `losses`, `metrics`, its folder's `kinds`, `registry`, `sentences`.
"""

import keyword
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..files import is_whole, unknown
from ..tasks import Problem, TensorSplit
from .kinds import tagging
from .registry import register
from .sentences import FIRST, Cut, Sentence, by_pieces, by_words, placed, read_conllu, read_wikiann, words_of

Splits = Mapping[str, Mapping[str, Sequence[Sentence]]]  # {split: {task: sentences}}
PARTS = {"train": "train", "val": "dev", "test": "test"}  # how splits are called in names of files
MARKS = 2  # places that a tokenizer takes for itself


@dataclass(frozen=True)
class Net:
    """An encoder's options, and what training it takes."""

    encoder: Mapping[str, Any]
    training: Mapping[str, Any]


PRINTED = {"optimizer": "adamw", "lr": 2e-5, "batch_size": 32}
NETS = {"window": Net({"name": "window", "widths": [48, 48], "reach": 2}, {"lr": 1.5e-2, "batch_size": 32}),
        "small": Net({"name": "bert", "layers": 2, "width": 48, "inner": 96, "blocks": 1, "heads": 2},
                     {"lr": 2e-3, "batch_size": 32}),
        "paper": Net({"name": "bert", "layers": 5}, PRINTED)}


@dataclass(frozen=True)
class Tagging:
    """One of the two problems. languages: the printed ones."""

    languages: tuple[str, ...]
    tags: tuple[str, ...]
    scheme: str


KINDS = {
    "pos": Tagging(("en", "zh", "te", "vi"), ("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART",
                                              "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"), "plain"),
    "ner": Tagging(("en", "zh", "de", "es"), ("O", "B-LOC", "I-LOC", "B-ORG", "I-ORG", "B-PER", "I-PER"), "bio")}


@register("xtreme")
def xtreme(problem: str = "pos", folder: str = "data/xtreme", languages: Sequence[str] | None = None,
           length: int = 128, words: int = 20_000, net: str = "small", weights: str | None = None,
           with_data: bool = True) -> Problem:
    """A task for each language, with sentences of its own: parts of speech, or names of places, groups and people.

    Measures: accuracy, and `chunk_f1`, see `metrics.ChunkF1`.

    problem: "pos", 17 tags, from the treebanks of Universal Dependencies: all files `LANGUAGE_*-ud-PART.conllu` that
        lie in `folder` or below, or `LANGUAGE-PART.conllu`, PART being train, dev and test; several of a language are
        put together. "ner", 7 tags, from WikiANN: files `folder/LANGUAGE-PART`.
    languages: as the names of files begin; None takes the four printed ones.
    length: places of a sentence; what is longer is cut, which is said.
    words: how many of the training sentences' words, of all languages, have a number, the most frequent.
    net: "window", which sees two words on either side and needs no extra, "small", a BERT of one block, or "paper",
        multilingual BERT's sizes and five fully connected layers; with it, or with weights, budget "paper" has the
        printed settings of training.
    weights: a folder with a BERT and its tokenizer, in place of `net` and `words`, see `encoders.bert`. The printed
        results start from multilingual BERT.
    Raises ValueError for an unknown problem or net, fewer than one language, tags that are not the problem's, and no
    place for a word; FileNotFoundError for a language without a split, saying which files were looked for; and as
    `read_conllu`, `read_wikiann`.
    Source: Learning Architecture for Multiple Tasks in Transfer Learning, sections 5.3.1, 5.3.2 and 5.4.4.
    """
    if problem not in KINDS:
        raise ValueError(unknown("problem of XTREME", problem, KINDS))
    kind = KINDS[problem]
    chosen = list(kind.languages if languages is None else languages)
    if isinstance(languages, str) or not chosen or len(set(chosen)) < len(chosen):
        raise ValueError(f"languages={languages!r}: give a list of different ones, such as {list(kind.languages)}.")
    splits: Splits | None = None
    if with_data:
        splits = {split: {task_name(language): _sentences(problem, Path(folder), language, part)
                          for language in chosen} for split, part in PARTS.items()}
    printed = weights is not None or net == "paper"
    training = {"paper": {**PRINTED, "epochs": 100}, "fast": {**PRINTED, "epochs": 1, "samples": 200, "evaluate": 100},
                "full": {**PRINTED, "epochs": 3}} if printed else fast(net, 3)
    return problem_of(f"xtreme_{problem}", [task_name(language) for language in chosen], kind.tags, kind.scheme, splits,
                      length, words, net, weights, training)


def fast(net: str, epochs: int) -> dict[str, dict[str, Any]]:
    """The settings of training `net` quickly; none for an unknown one, which `problem_of` refuses."""
    return {"fast": {**NETS[net].training, "epochs": epochs}} if net in NETS else {}


def task_name(language: str) -> str:
    """A language as a task: `is` and the like, which are words of Python, get an underscore.

    >>> task_name("en"), task_name("is")
    ('en', 'is_')
    """
    return f"{language}_" if keyword.iskeyword(language) else language


def problem_of(name: str, tasks: Sequence[str], tags: Sequence[str], scheme: str, splits: Splits | None, length: int,
               words: int, net: str, weights: str | None, training: dict[str, dict[str, Any]]) -> Problem:
    """The problem of these sentences; the arguments are those of `xtreme`, `splits` None for one without data."""
    if net not in NETS:
        raise ValueError(unknown("net", net, NETS))
    for option, value, least in (("length", length, 1 + MARKS * (weights is not None)), ("words", words, 1)):
        if not is_whole(value, least):
            raise ValueError(f"{option}={value!r} must be a whole number, at least {least}.")
    spec = dict(NETS[net].encoder)
    if weights is not None:
        spec = {"name": "bert", "layers": NETS["paper"].encoder["layers"], "weights": str(weights)}
    elif net != "paper":
        spec |= {"vocabulary": words + FIRST} | ({"positions": length} if net == "small" else {})
    made: dict[str, Any] = dict.fromkeys(PARTS)
    if splits is not None:
        if weights is None:
            encode = by_words(words_of((s for own in splits["train"].values() for s in own), words))
        else:
            encode = by_pieces(weights, length)
        cut = Cut()
        for split, own in splits.items():
            pairs = {task: placed(there, encode, tags, length, f"{name}, {split} of {task}", cut)
                     for task, there in own.items()}
            made[split] = TensorSplit({task: pair[0] for task, pair in pairs.items()},
                                      {task: pair[1] for task, pair in pairs.items()})
        cut.tell(name, length)
    return Problem(name, [tagging(task, tags, scheme) for task in tasks], **made, input_shape=(length,), encoder=spec,
                   training=training, input_dtype=torch.long)


def _sentences(problem: str, folder: Path, language: str, part: str) -> list[Sentence]:
    """What the files of a language and a part have."""
    if problem == "ner":
        looked_for, files = f"{language}-{part}", [folder / f"{language}-{part}"]
        files = [path for path in files if path.is_file()]
    else:
        looked_for = f"{language}_*-ud-{part}.conllu or {language}-{part}.conllu"
        files = sorted([*folder.rglob(f"{language}_*-ud-{part}.conllu"), *folder.rglob(f"{language}-{part}.conllu")])
    if not files:
        raise FileNotFoundError(f"There is no {part} split of {language!r} in {folder}: {looked_for} is not there. Get "
                                "it from the XTREME benchmark, or leave the language out of languages=.")
    return [sentence for path in files for sentence in (read_wikiann if problem == "ner" else read_conllu)(path)]
