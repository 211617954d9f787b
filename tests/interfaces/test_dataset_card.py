"""Cards: what they take, what they refuse, and the README.md that they are read from and written to."""

from __future__ import annotations

import datetime as dt
import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset import DatasetCard
from ipfs_dataset_core.errors import FormatError, MissingDependencyError
from ipfs_dataset_core.interfaces.dataset_card import as_card, class_numbers

FULL = DatasetCard(
    name="Small pets",
    description="Photos of **pets**.\n\nTaken at home.",
    licence="cc-by-4.0",
    citation="@misc{pets,\n  year = {2024}\n}",
    homepage="https://example.org/pets",
    creators=["Ann Example", "Ben Example"],
    classes=["cat", "dog"],
    version="2.1.0",
    published="2026-01-31",
    keywords=["pets", "photos"],
    previews=12,
)


@pytest.mark.parametrize(
    "card", [FULL, DatasetCard(name="x"), DatasetCard(name="y", classes={"a": 3, "b": 1})]
)
def test_a_card_is_equal_after_json_and_after_its_readme(card):
    assert DatasetCard.from_json(json.loads(json.dumps(card.to_json())), "it") == card
    again = DatasetCard.from_readme(card.to_readme())
    assert again.to_readme() == card.to_readme()
    for field in (
        "name",
        "licence",
        "citation",
        "homepage",
        "creators",
        "classes",
        "version",
        "keywords",
    ):
        assert getattr(again, field) == getattr(card, field)


def test_fields_that_are_not_given_are_not_written():
    assert DatasetCard(name="x").to_json() == {"name": "x", "version": "1.0.0"}


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("mit", "MIT"),
        ("CC-by-4.0", "CC-BY-4.0"),
        ("mit or Apache-2.0", "MIT OR Apache-2.0"),
        ("licenseref-mine", "LicenseRef-mine"),
        ("", None),
        (None, None),
    ],
)
def test_licences_are_normalised_to_spdx_identifiers(given, written):
    assert DatasetCard(name="x", licence=given).licence == written


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "needs a name"),
        ({"name": " \n"}, r"U\+000A"),
        ({"name": "\u200b"}, "needs a name"),
        ({"name": "two\nlines"}, r"name of a card has the character U\+000A"),
        ({"name": "x" * 501}, "501 characters, more than 500"),
        ({"name": 5}, "is 5, not text"),
        ({"name": "evil\u202etxt"}, r"U\+202E"),
        ({"name": "\x1b[31mred"}, r"U\+001B"),
        ({"name": "\ud800"}, r"U\+D800"),
        ({"description": "x" * ((1 << 16) + 1)}, "more than 65536"),
        ({"description": "nul\0"}, r"U\+0000"),
        ({"licence": "CC-BY"}, r"'CC-BY' is not an SPDX identifier .*https://spdx.org/licenses"),
        ({"licence": "free for all"}, "not an SPDX identifier"),
        ({"licence": 3}, "not text"),
        ({"homepage": "javascript:alert(1)"}, "not a URL that starts with"),
        ({"homepage": "https://a b"}, "not a URL"),
        ({"homepage": 'https://a/"onclick='}, "not a URL"),
        ({"homepage": "data:text/html,x"}, "not a URL"),
        ({"homepage": "https://[::1"}, "not a URL"),
        ({"creators": 5}, "must be a list of texts"),
        ({"creators": [5]}, "one of the creators of a card is 5, not text"),
        ({"creators": ["x"] * 201}, "at most 200"),
        ({"creators": [""]}, "one of the creators of a card is empty"),
        ({"creators": ["Ann", " \u200b"]}, "one of the creators of a card is empty"),
        ({"creators": {"Ann", "Ben"}}, "must be a list of texts"),
        ({"keywords": [""]}, "one of the keywords of a card is empty"),
        ({"classes": {"cat", "dog"}}, "a set, which has no order"),
        ({"classes": "cat"}, "a list or a dict"),
        ({"classes": ["a", "a"]}, "the same name"),
        ({"classes": [1]}, "name of a class is 1"),
        ({"classes": {"a": True}}, "has the number True"),
        ({"classes": (str(n) for n in range(1 << 19))}, "more than 262,144 names"),
        ({"published": "yesterday"}, "such as '2026-01-31'"),
        ({"previews": 201}, "0 to 200"),
        ({"previews": True}, "0 to 200"),
    ],
)
def test_invalid_cards_are_refused_with_the_reason(fields, message):
    with pytest.raises(ValueError, match=message):
        DatasetCard(**{"name": "x", **fields})


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        {},
        {"name": 1},
        {"name": "x", "creators": 5},
        {"name": "x", "licence": {}},
        {"name": "x", "licence": "a\nb"},
    ],
)
def test_a_damaged_card_is_an_error_of_the_format(fields):
    with pytest.raises(FormatError, match="card of it"):
        DatasetCard.from_json(fields, "card of it")


def test_empty_fields_are_fields_that_are_not_given():
    card = DatasetCard(name="x", version="", creators="", keywords="", licence="", homepage="")
    assert card == DatasetCard(name="x")
    assert DatasetCard.from_json(card.to_json(), "it") == card


def test_empty_texts_that_earlier_versions_wrote_do_not_stop_reading():
    fields = {"name": "x", "creators": ["", "Ann"], "keywords": [""]}
    card = DatasetCard.from_json(fields, "it")
    assert (card.creators, card.keywords) == (("Ann",), ())


def test_a_licence_that_only_a_newer_list_has_and_new_fields_do_not_stop_reading():
    card = DatasetCard.from_json(
        {"name": "x", "licence": "New-1.0", "mood": "good", "readme": 5}, "it"
    )
    assert (card.licence, card.name) == ("New-1.0", "x")


HUB = """\
---
license: other
license_name: my-licence
pretty_name: "Hub\u2019s dataset"
tags:
- a
- 5
language: en
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': dog
          '10': eel
          '2': fish
---
<!-- a comment -->
# Dataset card for the Hub

![picture](x.png)

Pets, **many** of them,
in two lines.

```bibtex
@article{x,
 year={2020}}
```
"""


def test_a_readme_of_the_hub_is_a_card(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(HUB, "utf-8")
    for readme in (path, str(path), HUB, HUB.replace("\n", "\r\n")):
        card = as_card(readme)
        assert card is not None
        assert card.name == "Hub\u2019s dataset"
        assert card.licence == "LicenseRef-my-licence"
        assert card.classes == ("cat", "dog", "fish", "eel")
        assert card.keywords == ("a", "5")
        assert card.description == "Pets, **many** of them, in two lines."
        assert card.citation.startswith("@article{x,")
        assert card.to_readme() == HUB


@pytest.mark.parametrize(
    ("readme", "message"),
    [
        ("no heading\n", "neither a name"),
        ("---\nlicense: nonsense\n---\n# x\n", "SPDX"),
        ("---\na: [\n---\n# x\n", "not YAML"),
        ("---\n- a\n---\n# x\n", "not names with values"),
        ("---\na: " + "[" * 5000 + "\n---\n# x\n", "not YAML"),
        ("---\na: !!python/object/apply:os.system [x]\n---\n# x\n", "not YAML"),
        ("---\nb: " + "x" * (1 << 17) + "\n---\n# x\n", "more than 65536"),
        ("---\nclasses: 5\n---\n# x\n", "a list or a dict"),
    ],
)
def test_an_invalid_readme_is_refused(readme, message):
    with pytest.raises(FormatError, match=f"the text given is not a card: .*{message}"):
        DatasetCard.from_readme(readme)


@pytest.mark.parametrize("card", [5, b"x", ["x"]])
def test_an_argument_for_a_card_is_converted_to_one(card, tmp_path):
    with pytest.raises(ValueError, match="DatasetCard or the path"):
        as_card(card)
    with pytest.raises(FormatError, match=r"none\.md' is not a card: it cannot be read"):
        as_card(tmp_path / "none.md")
    assert as_card(None) is None
    assert as_card(FULL) is FULL


def test_without_pyyaml_the_message_names_the_extra_and_a_plain_readme_works(monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingDependencyError, match=r"ipfs-dataset\[card\]"):
        DatasetCard.from_readme(HUB)
    assert DatasetCard.from_readme("# Pets\n\nMany.\n").description == "Many."


def test_a_date_in_yaml_is_accepted():
    assert (
        DatasetCard.from_readme("---\npublished: 2026-01-31\n---\n# x\n").published == "2026-01-31"
    )
    assert DatasetCard(name="x", published=dt.date(2026, 1, 31)).published == "2026-01-31"


@given(st.text(max_size=300))
def test_any_text_is_a_readme_or_an_error_that_says_why(text):
    try:
        card = DatasetCard.from_readme(text + "\n")
    except (ValueError, MissingDependencyError):
        return
    assert DatasetCard.from_json(card.to_json(), "it") == card


@given(st.lists(st.text(max_size=5), unique=True, max_size=5))
def test_names_of_classes_are_numbered_in_order(names):
    assert list(class_numbers(names).values()) == list(range(len(names)))
