"""The catalogue says of everything that is registered what it is, in its own words."""

from mtlcourse import methods, models, strategies
from mtlcourse.course import catalogue
from mtlcourse.training import procedures


class Cited:
    """Does one thing,
    and in two lines. Then another. Source: J. Ma, A. B. Lee, A Long
    Title, 2020, equation 1. Not this.

    Nor this.
    """


def test_sentences_end_where_they_end():
    assert catalogue.first_sentence(Cited) == "Does one thing, and in two lines."
    assert catalogue.source(Cited) == "J. Ma, A. B. Lee, A Long Title, 2020, equation 1"
    assert catalogue.source(catalogue.ways) == ""


def test_every_architecture_is_there_with_words_and_a_source():
    table = catalogue.architectures().set_index("name")
    assert list(table.index) == methods.names()
    assert table["what it is"].str.endswith(".").all()
    assert list(table.index[table["source"] == ""]) == ["stl", "stl-wide"]  # our yardsticks
    assert table.at["hps", "what it is"] == catalogue.first_sentence(models.HPS)
    said = [catalogue.first_sentence(thing) for thing in (models.DSMTL, procedures.dsmtl_jl)]
    assert table.at["dsmtl-jl", "what it is"] == " ".join(said)
    assert table.at["dsmtl-jl", "source"] == catalogue.source(procedures.dsmtl_jl) != catalogue.source(models.DSMTL)


def test_every_strategy_is_there_with_what_it_looks_at():
    table = catalogue.ways().set_index("name")
    assert list(table.index) == strategies.names()
    assert table.at["uw", "kind"] == "loss, needs losses" and table.at["mgda", "kind"] == "gradient, needs gram"
    assert table["what it is"].str.endswith(".").all() and list(table.index[table["source"] == ""]) == ["ew"]
