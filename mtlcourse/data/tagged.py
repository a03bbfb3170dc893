"""`tagged`: parts of speech of Turkish sentences, written on the web and in an encyclopedia.

Imports `files`, `tasks`, its folder's `kinds`, `languages`, `registry`, `sentences`.
"""

from importlib import metadata
from pathlib import Path

from ..tasks import Problem
from .languages import NETS, Splits, problem_of
from .registry import register
from .sentences import Sentence, read_conllu

SECTIONS = ("web", "wiki")
TAGS = ("ADJ", "ADP", "ADV", "AFFIX", "CONJ", "DET", "NOUN", "NUM", "ONOM", "PRON", "PRT", "PUNCT", "VERB", "X")


@register("tagged")
def tagged(length: int = 48, words: int = 8_000, net: str = "small", weights: str | None = None,
           with_data: bool = True) -> Problem:
    """Two tasks with Turkish sentences of their own, `web` (2,541) and `wiki` (2,310): one of 14 tags for each word.

    Words are parted where their forms derive, as the treebank has them. Of each ten sentences in the order of the
    treebank eight are for training, the ninth for validation, the tenth for testing, as its publishers have it.
    Measures: accuracy, and `chunk_f1` of runs of equal tags.

    length: places of a sentence; 48 hold all of `web`, and all but 736 words of 67 sentences of `wiki`, which is said.
    words: how many of the training sentences' words have a number, the most frequent; others are one unknown word.
    net: "small", or "paper" for multilingual BERT's sizes and five layers behind it.
    weights: a folder with a BERT and its tokenizer, in place of `net` and `words`, see `encoders.bert`.
    Raises ModuleNotFoundError without the treebanks, and as `data.xtreme` does.
    Source: the Turkish Web Treebank, T. Kayadelen et al., A Gold Standard Dependency Treebank for Turkish, 2020
    (Apache 2.0). It stands in for the four languages of Learning Architecture for Multiple Tasks in Transfer Learning,
    section 5.4.4: the same task, two kinds of text.
    """
    splits: Splits | None = None
    if with_data:
        sections = {section: treebank(section) for section in SECTIONS}
        splits = {split: {section: [s for number, s in enumerate(there) if number % 10 in tenths]
                          for section, there in sections.items()}
                  for split, tenths in (("train", range(8)), ("val", (8,)), ("test", (9,)))}
    return problem_of("tagged", SECTIONS, TAGS, "plain", splits, length, words, net, weights,
                      {"fast": {**NETS[net].training, "epochs": 6}} if net in NETS else {})


def treebank(section: str) -> list[Sentence]:
    """The sentences of "web" or "wiki", in the order of the treebank.

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
