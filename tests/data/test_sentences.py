"""Sentences from files with every oddity, words in places, and the problems made of them."""

import sys
import warnings

import pytest
import torch

from mtlcourse import data, methods
from mtlcourse.data import languages, sentences
from mtlcourse.data.sentences import PADDING, UNKNOWN, Cut, by_words, placed, read_conllu, read_wikiann, words_of
from mtlcourse.data.tagged import STORED, TAGS, store, stored, treebank
from mtlcourse.void import VOID

ZWNJ, NBSP, LINE = "\u200c", "\u00a0", "\u2028"


def columns(number, word, tag):
    return f"{number}\t{word}\t_\t{tag}\t_\t_\t0\t_\t_\t_"


ODD = "\n".join([
    "# text = del 8.1", columns("1-2", "del", "_"), columns(1, "de", "ADP"), columns(2, "el", "DET"),
    columns(3, f"10{NBSP}0 00", "NUM"), columns("3.1", "was", "VERB"), columns(4, f"mi{ZWNJ}ravam", "VERB"),
    columns(5, ZWNJ, "X"), columns(6, "#", "SYM"), "",
    "", columns(1, "_", "NOUN"), columns(2, "_", "VERB"), "",
    columns(1, "_", "PUNCT"), columns(2, f"a{LINE}b", "_"), "",
    "# text = last", columns(1, "end", "NOUN")])
EXPECTED = [[("de", "ADP"), ("el", "DET"), ("10000", "NUM"), ("miravam", "VERB"), ("#", "SYM")],
            [("_", "PUNCT"), ("ab", None)], [("end", "NOUN")]]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("behind", ["", "\n", "\n\n\n"], ids=["cut", "line", "blank"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "marked"])
def test_a_treebank_with_every_oddity(tmp_path, end, behind, mark):
    (tmp_path / "odd.conllu").write_bytes((mark + ODD + behind).replace("\n", end).encode())
    assert read_conllu(tmp_path / "odd.conllu") == EXPECTED


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_names_with_every_oddity(tmp_path, end):
    lines = ["en:Paris\tB-LOC", "en:12:30\tO", f"en:a {ZWNJ}b\tO", "en::\tO", "", "en:_\tO", "", "",
             "en:untold", "en:#\tI-LOC", "en:x\t"]
    (tmp_path / "en-test").write_bytes(end.join(lines).encode())
    assert read_wikiann(tmp_path / "en-test") == [
        [("Paris", "B-LOC"), ("12:30", "O"), ("ab", "O"), (":", "O")],
        [("untold", None), ("#", "I-LOC"), ("x", None)]]


def test_four_columns_are_enough_with_any_line_end(tmp_path):
    (tmp_path / "short").write_bytes(b"1\ta\t_\tNOUN\r\n2\tb\t_\tVERB")
    assert read_conllu(tmp_path / "short") == [[("a", "NOUN"), ("b", "VERB")]]


@pytest.mark.parametrize(("read", "text", "said"), [
    (read_conllu, "1\tword\n", r"file, line 1: '1\\tword' has 2 columns"),
    (read_conllu, columns(1, "a", "X") + "\nstray", "line 2: 'stray' has 1 columns"),
    (read_wikiann, "en:a\tO\n\nno language\tO", r"line 3: 'no language\\tO' has no language")])
def test_lines_that_are_none(tmp_path, read, text, said):
    (tmp_path / "file").write_text(text)
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "file")


# --- places ---------------------------------------------------------------------------------------------------

def test_words_get_places():
    there, cut = [[("a", "X"), ("b", None), ("new", "Y")], [("b", "Y")]], Cut()
    words = words_of(there[1:] + [[("a", None)]], 2)
    inputs, targets = placed(there, by_words(words), ("X", "Y"), 4, "here", cut)
    a, b = words["a"], words["b"]
    assert inputs.tolist() == [[a, b, UNKNOWN, PADDING], [b, PADDING, PADDING, PADDING]]
    assert targets.tolist() == [[0, VOID, 1, VOID], [1, VOID, VOID, VOID]]
    assert (cut.sentences, cut.cut, cut.words) == (2, 0, 0) and {a, b} == {2, 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cut.tell("here", 4)


def test_labels_are_at_the_first_piece_and_what_is_cut_is_told():
    def encode(texts):
        numbers, owners = [101], [None]
        for number, text in enumerate(texts):
            numbers += [ord(letter) for letter in text]
            owners += [number] * len(text)
        return [*numbers, 102], [*owners, None]

    cut = Cut()
    there = [[("ab", "Y"), ("c", "X"), ("def", "Y")], [("g", "X")]]
    inputs, targets = placed(there, encode, ("X", "Y"), 4, "here", cut)
    assert inputs.tolist() == [[101, 97, 98, 99], [101, 103, 102, PADDING]]
    assert targets.tolist() == [[VOID, 1, VOID, 0], [VOID, 0, VOID, VOID]]
    with pytest.warns(UserWarning, match="of more than 4 places were cut, so that 1 words of 1 of the 2"):
        cut.tell("here", 4)


def test_unknown_tags_and_no_sentences():
    with pytest.raises(ValueError, match="train of en: the word 'a' has the tag 'Q', and the tags are X, Y"):
        placed([[("a", "Q")]], by_words({}), ("X", "Y"), 2, "train of en", Cut())
    with pytest.raises(ValueError, match="train of en: there are no sentences"):
        placed([], by_words({}), ("X", "Y"), 2, "train of en", Cut())


# --- problems -------------------------------------------------------------------------------------------------

@pytest.fixture
def folder(tmp_path):
    """Two languages of each kind; English parts of speech come from two treebanks."""
    for part in ("train", "dev", "test"):
        for name in (f"en_one-ud-{part}.conllu", f"deep/en_two-ud-{part}.conllu", f"is_x-ud-{part}.conllu"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.write_text("\n".join([columns(1, name[:5], "NOUN"), columns(2, "x", "VERB"), ""]))
        for language in ("en", "zh"):
            (tmp_path / f"{language}-{part}").write_text(f"{language}:Paris\tB-LOC\n{language}:x\tO\n\n" * 3)
    return tmp_path


def test_languages_are_tasks(folder):
    problem = data.xtreme("pos", str(folder), ["en", "is"], length=5, words=9)
    assert problem.task_names == ["en", "is_"] and problem.input_shape == (5,) and problem.input_dtype == torch.long
    assert [problem.train.inputs[task].shape for task in problem.task_names] == [(2, 5), (1, 5)]
    assert (problem.test.targets["en"][:, :3] == torch.tensor([7, 15, VOID])).all()
    assert problem.encoder["vocabulary"] == 11 and problem.encoder["positions"] == 5
    names = data.load("xtreme", problem="ner", folder=str(folder), languages=["en", "zh"], length=5)
    assert names.train.count("zh") == 3 and list(names.tasks[0].metrics) == ["accuracy", "chunk_f1"]
    assert names.options["languages"] == ["en", "zh"]


def test_the_printed_languages():
    assert data.describe("xtreme").task_names == ["en", "zh", "te", "vi"]
    ner = data.describe("xtreme", problem="ner", net="paper")
    assert ner.task_names == ["en", "zh", "de", "es"] and ner.encoder == {"name": "bert", "layers": 5}
    assert ner.training["paper"] == {"optimizer": "adamw", "lr": 2e-5, "batch_size": 32, "epochs": 100}


@pytest.mark.parametrize(("options", "error", "said"), [
    ({"problem": "qa"}, ValueError, "Known: ner, pos"),
    ({"languages": []}, ValueError, "list of different ones"),
    ({"languages": "en"}, ValueError, "list of different ones"),
    ({"languages": ["en", "en"]}, ValueError, "list of different ones"),
    ({"languages": ["en", "te"]}, FileNotFoundError, r"no train split of 'te' in .*te_\*-ud-train.conllu or te-train"),
    ({"problem": "ner", "languages": ["fr"]}, FileNotFoundError, "fr-train is not there"),
    ({"net": "large"}, ValueError, "Known: paper, small, window"),
    ({"length": 0}, ValueError, "length=0 must be a whole number, at least 1"),
    ({"weights": "w", "length": 2}, ValueError, "at least 3"),
    ({"words": True}, ValueError, "words=True")])
def test_what_is_refused(folder, options, error, said):
    with pytest.raises(error, match=said):
        data.xtreme(**{"folder": str(folder), "languages": ["en"], **options})


def test_a_language_without_its_dev_split(folder):
    (folder / "is_x-ud-dev.conllu").unlink()
    with pytest.raises(FileNotFoundError, match="no dev split of 'is'"):
        data.xtreme("pos", str(folder), ["en", "is"])


def test_without_the_extra_a_sentence_says_what_to_install(folder, monkeypatch):
    (folder / "vocab.txt").write_text("[PAD]")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs transformers.*text extra: pip install .*mtlcourse\[text\]"):
        data.xtreme("pos", str(folder), ["en"], weights=str(folder))
    monkeypatch.setattr(sys, "path", [])  # where packages are looked for
    monkeypatch.setattr(sys, "meta_path", [])
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps turkish-treebanks"):
        treebank("web")


def test_tagged_splits_its_treebanks(monkeypatch):
    """On two small treebanks in place of the real ones, which are not always there."""
    def small(section):
        return [[(f"{section}{number}", TAGS[number % 14]), ("x", "X")] for number in range(20)]

    monkeypatch.setattr("mtlcourse.data.tagged.treebank", small)
    problem = data.load("tagged", sentences="whole", length=4, words=50)
    assert [len(getattr(problem, split)) for split in ("train", "val", "test")] == [16, 2, 2]
    assert problem.test.targets["web"].tolist() == [[9, 13, VOID, VOID], [19 % 14, 13, VOID, VOID]]
    assert (problem.train.inputs["wiki"][:, 0] >= 2).all() and (problem.test.inputs["wiki"][:, 0] == UNKNOWN).all()
    assert data.describe("tagged").input_shape == (48,)


def test_the_real_treebanks():
    try:
        found = {section: treebank(section) for section in ("web", "wiki")}
    except ModuleNotFoundError as error:
        pytest.skip(str(error))
    assert {section: len(there) for section, there in found.items()} == {"web": 2_541, "wiki": 2_310}
    assert {tag for there in found.values() for sentence in there for _, tag in sentence} == set(TAGS)
    with pytest.warns(UserWarning, match="736 words of 67 of the 4,851 sentences"):
        problem = data.load("tagged", sentences="whole", net="small")
    assert len(problem.train.targets["web"]) == 2_033
    assert languages.NETS["small"].encoder.items() <= problem.encoder.items()
    assert sentences.FIRST + 8_000 == problem.encoder["vocabulary"]
    assert stored() == {section: there[:1_000] for section, there in found.items()}


def test_what_is_stored_needs_nothing(monkeypatch):
    monkeypatch.setattr("mtlcourse.data.tagged.treebank", lambda section: pytest.fail("the treebank was read"))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        problem = data.load("tagged", length=96)  # which none of them is cut by
    assert [problem.train.count(section) for section in ("web", "wiki")] == [800, 800]
    assert [problem.test.count(section) for section in ("web", "wiki")] == [100, 100]
    assert STORED.stat().st_size < 300_000 and "Apache License" in STORED.with_suffix(".LICENSE").read_text()
    known = problem.train.inputs["web"] >= sentences.FIRST
    assert known.any(1).all() and (problem.train.targets["web"] >= 0).sum() == (problem.train.inputs["web"] > 0).sum()
    assert stored()["web"][0][:2] == [("Burda", "PRON"), ("da", "PRT")]
    with pytest.warns(UserWarning, match="275 words of 29 of the 2,000 sentences"):
        data.load("tagged")


def test_what_is_stored_is_written_from_the_treebanks(monkeypatch, tmp_path):
    treebanks = {"web": [[("a", "X"), ("b\u2028", "NOUN")], [("a", "VERB")]] * 600,
                 "wiki": [[("\u0131", "DET")]] * 1_000}
    monkeypatch.setattr("mtlcourse.data.tagged.treebank", treebanks.get)
    store(tmp_path / "small.npz")
    assert stored(tmp_path / "small.npz") == {"web": treebanks["web"][:1_000], "wiki": treebanks["wiki"]}


def test_other_sentences_than_stored_or_whole():
    with pytest.raises(ValueError, match="Unknown choice of sentences 'half'. Known: stored, whole"):
        data.load("tagged", sentences="half")


def test_tagged_learns_on_what_is_stored():
    """The most frequent tag is that of .37 and .43 of the words; three epochs do better."""
    found = methods.run("hps(epochs=0.5)", data.load("tagged", length=96), seed=0, budget="fast", progress=False)
    assert min(values["accuracy"] for values in found.metrics.values()) > 0.55
