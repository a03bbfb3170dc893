"""`tagged`: parts of speech of Turkish sentences, written on the web and in an encyclopedia.

Imports `files`, `tasks`, its folder's `kinds`, `languages`, `registry`, `sentences`, `splits`, `stored`. The first
thousand sentences of each of the two are in the package, `tagged.npz`: of each word its form and its part of speech,
nothing else changed, made by `store` from turkish-treebanks 1.0.0. They are under the Apache License 2.0 of the
treebanks, `tagged.LICENSE`.
"""

from importlib import metadata
from pathlib import Path

import numpy as np

from ..files import unknown
from ..tasks import Problem
from . import stored as kept
from .languages import Splits, fast, problem_of
from .registry import register
from .sentences import Sentence, read_conllu

SECTIONS = ("web", "wiki")
TAGS = ("ADJ", "ADP", "ADV", "AFFIX", "CONJ", "DET", "NOUN", "NUM", "ONOM", "PRON", "PRT", "PUNCT", "VERB", "X")
STORED = Path(__file__).with_name("tagged.npz")
FIRST = 1_000  # so many sentences of each section are stored
SENTENCES = ("stored", "whole")


@register("tagged")
def tagged(sentences: str = "stored", length: int = 48, words: int = 8_000, net: str = "window",
           weights: str | None = None, with_data: bool = True) -> Problem:
    """Two tasks with Turkish sentences of their own, from the web and from Wikipedia: one of 14 tags for each word.

    Words are parted where their forms derive, as the treebank has them. Of each ten sentences in the order of the
    treebank eight are for training, the ninth for validation, the tenth for testing, as its publishers have it.
    Measures: accuracy, and `chunk_f1` of runs of equal tags.

    sentences: "stored", the first 1,000 of each that are in the package; or "whole", all 2,541 of `web` and 2,310 of
        `wiki`, read from the package turkish-treebanks.
    length: places of a sentence; 48 hold all of `web`, and all but 736 words of 67 sentences of `wiki`, 275 of
        29 where stored, which is said; 96 hold all.
    words: how many of the training sentences' words have a number, the most frequent; others are one unknown word.
    net: "window", which sees two words on either side and needs no extra; "small", a BERT of one block; or "paper",
        multilingual BERT's sizes and five layers behind it.
    weights: a folder with a BERT and its tokenizer, in place of `net` and `words`, see `encoders.bert`.
    Raises ValueError for other sentences, ModuleNotFoundError for the whole without the treebanks, and as
    `data.xtreme` does.
    Source: the Turkish Web Treebank, T. Kayadelen et al., A Gold Standard Dependency Treebank for Turkish, 2020
    (Apache 2.0). It stands in for the four languages of Learning Architecture for Multiple Tasks in Transfer Learning,
    section 5.4.4: the same task, two kinds of text.
    """
    if sentences not in SENTENCES:
        raise ValueError(unknown("choice of sentences", str(sentences), SENTENCES))
    splits: Splits | None = None
    if with_data:
        sections = stored() if sentences == "stored" else {section: treebank(section) for section in SECTIONS}
        splits = {split: {section: [s for number, s in enumerate(there) if number % 10 in tenths]
                          for section, there in sections.items()}
                  for split, tenths in (("train", range(8)), ("val", (8,)), ("test", (9,)))}
    return problem_of("tagged", SECTIONS, TAGS, "plain", splits, length, words, net, weights,
                      fast(net, 6))


def stored(path: Path = STORED) -> dict[str, list[Sentence]]:
    """The sentences of each section that are in the package, the first of the treebank in its order."""
    arrays = kept.read(path)
    words = arrays["words"].tobytes().decode().split("\n")
    ends = arrays["lengths"].cumsum()
    pairs = [(words[word], TAGS[tag]) for word, tag in zip(arrays["numbers"], arrays["tags"], strict=True)]
    whole = [pairs[end - length : end] for end, length in zip(ends, arrays["lengths"], strict=True)]
    return {section: whole[place : place + FIRST] for place, section in zip((0, FIRST), SECTIONS, strict=True)}


def store(path: Path = STORED) -> None:
    """Write what is in the package, from the treebanks."""
    whole = [sentence for section in SECTIONS for sentence in treebank(section)[:FIRST]]
    flat = [pair for sentence in whole for pair in sentence]
    words = sorted({word for word, _ in flat})
    number = {word: place for place, word in enumerate(words)}
    kept.write(path, {"words": np.frombuffer("\n".join(words).encode(), np.uint8),
                      "numbers": np.array([number[word] for word, _ in flat], np.uint16),
                      "tags": np.array([TAGS.index(str(tag)) for _, tag in flat], np.uint8),
                      "lengths": np.array([len(sentence) for sentence in whole], np.int64)})


def treebank(section: str) -> list[Sentence]:
    """All sentences of "web" or "wiki", in the order of the treebank.

    Raises ModuleNotFoundError where the package is not installed. It is read as a file: to import it takes a package
    that it does not work with any more.
    """
    try:
        files = metadata.files("turkish-treebanks") or []
    except metadata.PackageNotFoundError as error:
        raise ModuleNotFoundError("This needs the treebanks that turkish-treebanks brings: pip install --no-deps "
                                  "turkish-treebanks.", name="turkish_treebanks") from error
    found = [Path(str(file.locate())) for file in files if file.name == f"{section}.conllu"]
    if not found:
        raise FileNotFoundError(f"turkish-treebanks is installed, but brings no {section}.conllu: pip install "
                                "--force-reinstall --no-deps turkish-treebanks.")
    return read_conllu(found[0])
