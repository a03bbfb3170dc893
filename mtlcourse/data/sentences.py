"""Sentences whose words have tags: files of two kinds are read, and words become numbers in places.

Imports `files`, `void`, and transformers inside a function. A sentence is a list of (word, tag); a word without
tag has None. What is made of them is a dense classification: one tag for each of `length` places, `VOID` where there is
no label.
"""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from ..files import optional
from ..void import VOID

Sentence = list[tuple[str, str | None]]
Encode = Callable[[list[str]], tuple[list[int], list[int | None]]]  # words -> numbers, and which word each is of
PADDING, UNKNOWN, FIRST = 0, 1, 2  # the numbers of words: none, none that is known, the most frequent
NOTHING = dict.fromkeys((0x200C, 0xFEFF))  # zero-width non-joiner, byte order mark


def read_conllu(path: str | Path) -> list[Sentence]:
    """The sentences of a CoNLL-U file: the words (second column) with their parts of speech (fourth).

    Multiword ranges (`1-2`) and empty nodes (`8.1`) are no words. Zero-width non-joiners and blanks within a word are
    removed; a word of which nothing is left is left out, and so is a sentence whose words are all `_`, as treebanks
    without their text have them. A tag `_` is none. The last sentence counts without a blank line behind it.
    Raises FileNotFoundError, and ValueError for a line of too few columns, naming it.
    """
    def word(number: int, line: str) -> tuple[str, str | None] | None:
        columns = line.split("\t")
        if len(columns) < 4:
            raise ValueError(f"{path}, line {number}: {line!r} has {len(columns)} columns, and a word of a CoNLL-U "
                             "file has ten, with tabs between them.")
        if "-" in columns[0] or "." in columns[0]:
            return None
        return columns[1], None if columns[3] == "_" else columns[3]

    return [sentence for sentence in _read(path, word, comment="#") if any(text != "_" for text, _ in sentence)]


def read_wikiann(path: str | Path) -> list[Sentence]:
    """The sentences of a WikiANN file as XTREME has them: lines `language:word TAB tag`, blank ones between sentences.

    A word may have colons of its own: a line is cut at its first. A line without a tag is a word without one, where
    other readers take it for `O`. Blanks, non-joiners and a last line are treated as by `read_conllu`.
    Raises FileNotFoundError, and ValueError for a line without a language, naming it.
    """
    def word(number: int, line: str) -> tuple[str, str | None]:
        text, _, tag = line.partition("\t")
        language, colon, text = text.partition(":")
        if not colon:
            raise ValueError(f"{path}, line {number}: {line!r} has no language; a line is `language:word TAB tag`.")
        return text, tag.rpartition("\t")[2].strip() or None

    return [sentence for sentence in _read(path, word) if any(text != "_" for text, _ in sentence)]


def _read(path: str | Path, word: Callable, comment: str | None = None) -> list[Sentence]:
    """Sentences, by what `word(number, line)` makes of each line: a word and its tag, or None."""
    sentences: list[Sentence] = [[]]
    with open(path, encoding="utf-8-sig", newline="") as file:  # other line ends of Unicode may stand within words
        lines = file.read().split("\n")
    for number, line in enumerate((line.removesuffix("\r") for line in lines), start=1):
        if not line.strip():
            sentences.append([])
        elif comment is None or not line.startswith(comment):
            found = word(number, line)
            if found and (text := "".join(found[0].translate(NOTHING).split())):
                sentences[-1].append((text, found[1]))
    return [sentence for sentence in sentences if sentence]


# --- numbers in places --------------------------------------------------------------------------------------

def words_of(sentences: Iterable[Sentence], most: int) -> dict[str, int]:
    """The number of each of the `most` most frequent words, from `FIRST` on, equally frequent ones by the alphabet.

    >>> words_of([[("b", None), ("a", None)], [("c", None), ("c", None)]], 2)
    {'c': 2, 'a': 3}
    """
    counts = Counter(text for sentence in sentences for text, _ in sentence)
    return {text: number for number, text in enumerate(sorted(counts, key=lambda w: (-counts[w], w))[:most], FIRST)}


def by_words(words: Mapping[str, int]) -> Encode:
    """Each word its number, `UNKNOWN` if it has none."""
    return lambda texts: ([words.get(text, UNKNOWN) for text in texts], list(range(len(texts))))


def by_pieces(folder: str | Path, length: int) -> Encode:
    """The pieces that the tokenizer in `folder` cuts words into, between its marks, at most `length` of them.

    Raises ModuleNotFoundError without the extra, FileNotFoundError without a tokenizer, ValueError for one that cannot
    tell which word a piece is of, or whose padding is not 0.
    """
    transformers = optional("transformers", "text")
    if not any((Path(folder) / name).is_file() for name in ("tokenizer.json", "vocab.txt")):
        raise FileNotFoundError(f"There is no tokenizer in {folder}: neither tokenizer.json nor vocab.txt. It must be "
                                "the one that the weights were trained with.")
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    if not tokenizer.is_fast or tokenizer.pad_token_id != PADDING:
        raise ValueError(f"The tokenizer in {folder} is not BERT's: it must know which word a piece is of, and have "
                         f"padding {PADDING}, not {tokenizer.pad_token_id}.")

    def encode(texts: list[str]) -> tuple[list[int], list[int | None]]:
        made = tokenizer(texts, is_split_into_words=True, truncation=True, max_length=length)
        return made["input_ids"], made.word_ids()

    return encode


@dataclass
class Cut:
    """How much had no place. sentences: all; cut: those of them that lost words; words: that were lost."""

    sentences: int = 0
    cut: int = 0
    words: int = 0

    def tell(self, name: str, length: int) -> None:
        """Warn, if there is any."""
        if self.cut:
            warnings.warn(f"{name}: sentences of more than {length} places were cut, so that {self.words:,} words of "
                          f"{self.cut:,} of the {self.sentences:,} sentences are missing.", stacklevel=2)


def placed(sentences: Sequence[Sentence], encode: Encode, tags: Sequence[str], length: int, where: str, cut: Cut
           ) -> tuple[Int64[Tensor, "sentences places"], Int64[Tensor, "sentences places"]]:
    """Numbers and tags of sentences in `length` places: `PADDING` and `VOID` behind the end.

    The label of a word is at its first piece, its other pieces have none.
    where: what the sentences are, for messages.  cut: counts on; a sentence of more pieces is cut.
    Raises ValueError for a tag that is not in `tags`, and for no sentences.
    """
    if not sentences:
        raise ValueError(f"{where}: there are no sentences.")
    known = {tag: number for number, tag in enumerate(tags)}
    inputs = torch.full((len(sentences), length), PADDING)
    targets = torch.full((len(sentences), length), VOID)
    cut.sentences += len(sentences)
    for row, sentence in enumerate(sentences):
        numbers, owners = encode([text for text, _ in sentence])
        numbers, owners = numbers[:length], owners[:length]
        inputs[row, : len(numbers)] = torch.tensor(numbers)
        first = {owner: place for place, owner in reversed(list(enumerate(owners))) if owner is not None}
        for number, (text, tag) in enumerate(sentence):
            if tag is not None and tag not in known:
                raise ValueError(f"{where}: the word {text!r} has the tag {tag!r}, and the tags are "
                                 f"{', '.join(tags)}.")
            if number in first and tag is not None:
                targets[row, first[number]] = known[tag]
        cut.cut += len(first) < len(sentence)
        cut.words += len(sentence) - len(first)
    return inputs, targets

