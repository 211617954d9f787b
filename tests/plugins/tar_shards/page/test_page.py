"""The page of a dataset and what it is made of: what is on it, and that nothing else is."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import random
import re
import wave
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ipfs_dataset import DatasetCard, EncodedFile
from ipfs_dataset_core.interfaces import ExporterOptions
from ipfs_dataset_core.interfaces.value_codec import ValueCodec
from ipfs_dataset_core.ipld import get_profile
from ipfs_dataset_core.publishing.publish import publish
from ipfs_dataset_core.testing import MemoryTransport
from ipfs_dataset_plugins.tar_shards.codecs import SampleCodec
from ipfs_dataset_plugins.tar_shards.exporter import TarShards
from ipfs_dataset_plugins.tar_shards.page import html as page_module
from ipfs_dataset_plugins.tar_shards.page import pictures
from ipfs_dataset_plugins.tar_shards.page.previews import TIMES, label_bytes, preview_from_json
from ipfs_dataset_plugins.tar_shards.page.statistics import (
    Statistics,
    flat_json,
    found_label,
    merged,
    statistics_from_json,
)

VOID = {"meta", "link", "img", "br", "path", "rect"}


class Page(HTMLParser):
    """The elements and the text of a page; fails where elements are not closed as HTML has it."""

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def published(samples, card=None, classes=None, **options):
    transport = MemoryTransport()
    exporter = TarShards(ExporterOptions(card=card, classes=classes or {}, **options))
    return transport.directory(
        publish(exporter.export, samples, transport, get_profile("unixfs-v1-2025"))
    ).files


def page_of(samples, card=None, classes=None, **options):
    return Page(published(samples, card, classes, **options)["index.html"].decode())


def picture(number=0, size=(20, 16)):
    return Image.frombytes("RGB", size, random.Random(number).randbytes(size[0] * size[1] * 3))


CARD = DatasetCard(
    name="Small pets",
    description="Photos of **pets**, see [home](https://example.org/a?b=1&c=2).\n\nTaken with `cam`.",
    licence="CC-BY-4.0",
    citation="@misc{pets,\n  year = {2024}\n}",
    homepage="https://example.org/pets",
    creators=["Ann Example"],
    classes=["cat", "dog"],
    keywords=["pets"],
)
SAMPLES = [(picture(n), n % 3 // 2) for n in range(100)]


def test_a_page_shows_the_card_and_the_samples():
    page = page_of(SAMPLES, CARD, {"cat": 0, "dog": 1})
    for text in (
        "Small pets",
        "Ann Example",
        "CC-BY-4.0",
        "100",
        "Taken with cam",
        "year = {2024}",
        "67",
        "33.0",
    ):
        assert text in page.text
    links = {attributes["href"] for attributes in page.all("a")}
    assert {"https://example.org/pets", "https://spdx.org/licenses/CC-BY-4.0.html"} <= links
    assert "https://example.org/a?b=1&c=2" in links
    assert "**" not in page.text
    images = page.all("img")
    assert len(images) == 48
    assert images[0]["alt"] == "Sample 0, cat: 0"
    assert all(
        image["alt"] and image["src"].startswith("data:image/png;base64,") for image in images
    )
    assert next(tag for tag, _ in page.elements if tag in ("h1", "h2")) == "h1"
    assert page.all("html")[0] == {"lang": "en"}


def test_a_page_makes_no_requests():
    page = page_of(SAMPLES, CARD, {"cat": 0, "dog": 1})
    for tag, attributes in page.elements:
        for name in ("src", "srcset", "poster", "data", "action", "background"):
            assert attributes.get(name, "data:").startswith("data:"), tag
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert not {tag for tag, _ in page.elements} & {
        "iframe",
        "object",
        "embed",
        "form",
        "base",
        "audio",
        "video",
    }
    assert "url(" not in published(SAMPLES[:2])["index.html"].decode()
    assert "@import" not in published(SAMPLES[:2])["index.html"].decode()


def test_the_policy_lets_the_own_script_and_style_run_alone():
    text = published(SAMPLES[:1], CARD)["index.html"].decode()
    policy = html.unescape(re.findall(r'Content-Security-Policy" content="([^"]*)"', text)[0])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


EVIL = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'</title></style>"


def test_all_content_of_the_dataset_is_escaped_as_text():
    card = DatasetCard(
        name=EVIL,
        description=f'{EVIL} [x](https://a.b/"onmouseover=alert) [y](javascript:alert(1)) `{EVIL}`',
        licence="LicenseRef-evil",
        citation=EVIL,
        creators=[EVIL],
        keywords=[EVIL],
        homepage="https://example.org/x&y",
        version=EVIL,
    )
    samples = [{"image": picture(), EVIL: EVIL, "label": EVIL, "bytes": EVIL.encode()}] * 3
    page = page_of(samples, card, {EVIL: 0})
    plain = page_of([{"image": picture(), "a": "b", "label": "c", "bytes": b"d"}] * 3, CARD)
    assert {tag for tag, _ in page.elements} <= {tag for tag, _ in plain.elements}
    assert len(page.all("script")) == 1
    assert not any(name.startswith("on") for _, attributes in page.elements for name in attributes)
    assert not any("javascript" in a.get("href", "") for a in page.all("a"))
    assert EVIL in page.text


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=40), st.binary(max_size=20), st.sampled_from(["label", "x"]))
def test_any_text_in_samples_keeps_the_page_well_formed(text, data, key):
    page = page_of([{key: text, text or "k": data, "number": 3}, text, (data, text)])
    assert len(page.all("script")) == 1


def test_equal_samples_and_cards_have_equal_pages_and_others_other_ones():
    first = published(SAMPLES, CARD)
    assert published(iter(SAMPLES), CARD) == first
    assert published(SAMPLES[:-1], CARD)["index.html"] != first["index.html"]


def test_the_readme_and_the_manifest_have_the_card():
    files = published(SAMPLES, CARD, {"cat": 0, "dog": 1})
    assert DatasetCard.from_readme(files["README.md"].decode()).name == "Small pets"
    fields = json.loads(files["manifest.json"])
    assert DatasetCard.from_json(fields["card"], "it") == CARD
    assert fields["classes"] == ["cat", "dog"]
    plain = published(SAMPLES)
    assert "README.md" not in plain
    assert "Dataset" in Page(plain["index.html"].decode()).text


def test_a_card_decides_how_many_samples_are_shown():
    for previews in (0, 1, 5, 200):
        page = page_of(SAMPLES, DatasetCard(name="x", previews=previews))
        assert len(page.all("img")) == min(previews, 100)
        assert ("Samples" in [page.text[i : i + 7] for i in range(len(page.text))]) is True


def test_samples_shown_are_spread_over_the_dataset_however_long_it_is():
    for total in (1, 47, 48, 49, 97, 1000, 4321):
        statistics = Statistics(48)
        codec = SampleCodec()
        for schema, members in codec.encode_all((n, f"{n}") for n in range(total)):
            statistics.add(schema, members)
        positions = [shown.position for shown in statistics.shown()]
        assert len(positions) == min(48, total)
        assert positions == sorted(set(positions))
        assert positions[0] == 0
        gaps = [b - a for a, b in zip(positions, [*positions[1:], total], strict=True)]
        assert max(gaps) <= 4 * max(1, total / 48)
        assert len(statistics._kept) <= 48


@pytest.mark.parametrize("previews", [0, 1, 5, 48])
@pytest.mark.parametrize("total", [0, 1, 5, 500])
def test_the_samples_kept_are_those_with_the_lowest_ranks(previews, total):
    statistics = counted(range(total), previews)
    ranks = sorted(range(total), key=lambda n: n * 0x9E3779B97F4A7C15 % 2**64)
    assert {position for _, position, _ in statistics._kept} == set(ranks[:previews])
    assert statistics.samples == total


@given(st.text(st.characters(codec="utf-8")))
def test_text_on_the_page_has_no_control_characters_and_is_otherwise_the_same(text):
    expected = "".join(
        c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in text
    )
    assert html.unescape(page_module.escaped(text)) == expected


def photo(side):
    pixels = np.random.default_rng(1).integers(0, 255, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def test_large_images_become_small_ones_and_the_page_stays_bounded(monkeypatch):
    samples = [EncodedFile(photo(400))] * 60
    text = published(samples, DatasetCard(name="x", previews=60))["index.html"]
    assert len(text) < page_module.MAX_PAGE_BYTES
    image = Page(text.decode()).all("img")[0]
    assert image["src"].startswith("data:image/jpeg")
    assert Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2]))).size == (
        160,
        160,
    )
    assert (image["width"], image["height"]) == ("400", "400")
    monkeypatch.setattr(page_module, "MAX_PAGE_BYTES", 60_000)
    bounded = published(samples)["index.html"]
    assert len(bounded) <= 60_000
    assert 0 < len(Page(bounded.decode()).all("img")) < 48


def test_without_pillow_there_are_no_thumbnails_and_nothing_false(monkeypatch):
    samples = [(EncodedFile(photo(200)), n) for n in range(3)]
    encoded = list(SampleCodec().encode_all(samples))
    monkeypatch.setattr(
        "ipfs_dataset_plugins.tar_shards.codecs.images._pillow",
        lambda: (_ for _ in ()).throw(ImportError()),
    )
    statistics = Statistics(4)
    for schema, members in encoded:
        statistics.add(schema, members)
    values = [value for shown in statistics.shown() for value in shown.values]
    assert [value.image for value in values] == [None] * 6
    assert values[0].detail.startswith("image, ")


def drawn(value):
    page = page_of([value] * 2)
    return page.all("img") or page.all("path")


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (torch.rand(3, 32, 32), (32, 32)),
        (torch.rand(3, 224, 100), (40, 40)),
        (np.zeros((64, 30, 3), np.uint8), (30, 40)),
        (torch.rand(10, 20), (20, 10)),
        (torch.rand(500, 900), (48, 48)),
        (torch.rand(1, 28, 28), (28, 28)),
        (torch.rand(100), (48, 1)),
        (torch.rand(2, 5, 6, 7), (7, 6)),
        (torch.rand(5, 9, dtype=torch.float64).to(torch.bfloat16), (9, 5)),
        (torch.rand(5, 9).to(torch.complex64), (9, 5)),
        (torch.rand(5, 9) > 0.5, (9, 5)),
        (torch.full((4, 6), float("nan")), (6, 4)),
        (
            torch.tensor([[float("inf"), 1e308], [-1e308, 0.0]], dtype=torch.float64).repeat(3, 3),
            (6, 6),
        ),
        (np.arange(12, dtype=np.uint64).reshape(3, 4) * (1 << 60), (4, 3)),
    ],
)
def test_arrays_are_pictures(value, size):
    images = drawn(value)
    opened = Image.open(io.BytesIO(base64.b64decode(images[0]["src"].partition(",")[2])))
    opened.load()
    assert opened.size == size
    assert (images[0]["width"], images[0]["height"]) == tuple(map(str, size))


@pytest.mark.parametrize("value", [torch.rand(1, 8000), torch.rand(16000) - 0.5, np.zeros(300)])
def test_long_arrays_are_waves(value):
    (path, *_) = drawn(value)
    assert path["d"].startswith("M0 ")
    points = re.findall(r"(\d+) (\d+)", path["d"])
    assert all(0 <= int(x) <= 160 and 0 <= int(y) <= 64 for x, y in points)


def wav(width=2, channels=1, rate=8000, seconds=0.5):
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(random.Random(1).randbytes(int(rate * seconds) * width * channels))
    return buffer.getvalue()


@pytest.mark.parametrize("data", [wav(), wav(1), wav(4, 2), wav(2, 2, 44100)])
def test_audio_in_bytes_is_a_wave(data):
    page = page_of([(data, "yes")] * 2)
    assert len(page.all("path")) == 2
    assert "Hz" in page.text


@pytest.mark.parametrize(
    "data", [wav(3), wav()[:60], b"RIFF0000WAVE", b"fLaC" + bytes(50), bytes(9), b""]
)
def test_other_bytes_are_shown_by_their_size(data):
    page = page_of([(data, 1)] * 2)
    assert page.all("path") == []
    assert "bytes, " in page.text or "B" in page.text


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(3.5),
        torch.zeros(0, 5),
        np.float32(2),
        np.array(["a", "b"]),
        None,
        True,
        2**70,
        float("nan"),
        [],
        {"a": []},
        (),
        torch.zeros(3),
        np.array([1, 2], "M8[s]"),
        Image.new("I;16", (20, 20)),
        Image.new("F", (5, 5), 2.0),
        Image.new("CMYK", (50, 60)),
        Image.new("RGB", (0, 4)),
        Image.new("1", (3, 3)),
    ],
)
def test_anything_that_can_be_published_has_a_page(value):
    page = page_of([(value, 5)] * 3)
    assert "Fields" in page.text


def test_values_of_custom_codecs_are_shown():
    codec = ValueCodec(
        name="mine",
        type=complex,
        extension="x",
        encode=lambda z: b"\x89PNG\r\n\x1a\n",
        decode=bytes,
    )
    page = page_of([(1j, 2)], codecs=(codec,))
    assert "mine" in page.text


def test_several_structures_of_samples_are_mentioned():
    page = page_of([(picture(), "a")] * 3 + [("b",)] * 2)
    assert "2 samples have fields of their own" in page.text


@pytest.mark.parametrize(
    ("samples", "bars"),
    [
        ([("x", n % 5) for n in range(50)], ["0", "1", "2", "3", "4"]),
        ([(b"x", "no" if n % 2 else "yes") for n in range(50)], ["no", "yes"]),
        ([{"id": n, "label": -n % 2} for n in range(50)], ["0", "1"]),
        ([{"id": n, "other": 5} for n in range(50)], []),
        ([("x", n) for n in range(500)], []),
        ([n % 3 for n in range(50)], []),
        ([(n % 2, n % 3) for n in range(50)], []),
        ([(b"x", 8000, "no" if n % 2 else "yes") for n in range(50)], ["no", "yes"]),
        ([(picture(n), n, n % 4) for n in range(50)], ["0", "1", "2", "3"]),
        ([(picture(n), 7) for n in range(3)], ["7"]),
        ([(picture(n), 1.5, True) for n in range(9)], []),
    ],
)
def test_labels_are_counted_where_they_are_classes(samples, bars):
    page = published(samples)["index.html"].decode()
    found = re.findall(r'<th scope="row" dir="auto">([^<]*)</th><td class="bar">', page)
    assert found == bars


def test_of_many_classes_the_most_frequent_are_shown():
    page = page_of(
        [("x", n % 300 if n < 2000 else 7) for n in range(3000)],
        None,
        {f"c{n}": n for n in range(300)},
    )
    assert "the 40 most frequent of 300" in page.text
    assert len(page.all("rect")) == 40
    assert "c7" in page.text


def counted(samples, previews=48):
    statistics = Statistics(previews)
    for schema, members in SampleCodec().encode_all(samples):
        statistics.add(schema, members)
    return statistics


def test_statistics_of_parts_are_those_of_the_whole_but_for_the_samples_shown():
    whole = counted(SAMPLES)
    parts = [counted(SAMPLES[:30]), counted([]), counted(SAMPLES[30:31]), counted(SAMPLES[31:])]
    again = [
        statistics_from_json(json.loads(json.dumps(part.to_json())), part.schema) for part in parts
    ]
    found = merged(again, whole.schema)
    assert (found.samples, found.sizes, found.histogram()) == (
        whole.samples,
        whole.sizes,
        whole.histogram(),
    )
    shown = found.shown()
    assert [one.position for one in shown] == sorted({one.position for one in shown})
    by_position = {one.position: one for one in counted(SAMPLES, 100).shown()}
    assert all(by_position[one.position].values == one.values for one in shown)
    assert len(json.dumps(parts[3].to_json())) < 6000


def hostile(**changes):
    fields = json.loads(json.dumps(counted(SAMPLES[:9]).to_json()))
    value = fields["previews"][0]["values"][0]
    for name, change in changes.items():
        (
            value
            if name in value
            else fields["previews"][0]
            if name in fields["previews"][0]
            else fields
        )[name] = change
    return fields


@pytest.mark.parametrize(
    "changes",
    [
        {"image": 'x" onerror="alert(1)'},
        {"image": "https://example.org/x.png"},
        {"image": "data:image/svg+xml;base64,AAAA"},
        {"image": "data:image/png;base64," + "A" * 70_000},
        {"drawing": 'M0 0"/><script>'},
        {"text": "x" * 5000},
        {"text": 5},
        {"field": None},
        {"width": -1},
        {"width": "5"},
        {"position": 9},
        {"position": -1},
        {"short": {"a": "x" * 100}},
        {"samples": -1},
        {"samples": "x"},
        {"sizes": {"0.png": "x"}},
        {"labels": {"1.cls": {"x" * 100: 1}}},
        {"labels": {"1.cls": {"1": 1.5}}},
        {"labels": 5},
        {"previews": [{}]},
        {"previews": 5},
        {"values": [{"field": "x"}]},
    ],
)
def test_damaged_statistics_of_a_part_are_refused(changes):
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError)):
        statistics_from_json(hostile(**changes), counted(SAMPLES[:9]).schema)


def test_previews_are_equal_after_json():
    for shown in counted([*SAMPLES[:2], (torch.rand(900), "ä"), {"x": b"\xff"}]).shown():
        assert preview_from_json(json.loads(json.dumps(shown.to_json()))) == shown


def test_pictures_are_valid_and_the_same_everywhere():
    pixels = np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(10, 30)
    data = pictures.png(pixels, pictures.PALETTE)
    assert hashlib.sha256(data).hexdigest()[:16] == "90d79f4add7e9fff"
    opened = Image.open(io.BytesIO(data))
    assert opened.size == (30, 10)
    assert opened.convert("RGB").getpixel((0, 0)) == (68, 1, 84)


def test_samples_shown_have_all_labels_whatever_their_period():
    for period in (2, 3, 4, 8, 10, 16):
        statistics = counted([(b"x" * 5000, n % period) for n in range(3000)])
        found = {shown.short["1.cls"] for shown in statistics.shown()}
        assert len(found) > period * 0.7


LISTS = st.lists(st.integers(), max_size=2)


@given(
    st.dictionaries(
        st.sampled_from(["a", "label", "b", '"label":', ',"label":5', "{"]),
        st.one_of(
            st.integers(-(2**70), 2**70),
            st.text(max_size=8),
            st.none(),
            st.lists(st.integers(), max_size=2),
        ),
    ).map(lambda given: {**given, "label": given.get("label", 3)}),
)
def test_a_label_found_without_parsing_is_the_label(sample):
    payload = SampleCodec().encode(sample, 0).members[0][1]
    found = found_label(payload, "label")
    assert found in (None, b"%d" % sample["label"] if isinstance(sample["label"], int) else None)
    assert found_label(b'{"text":"x","label":-12}', "label") == b"-12"


SCALARS = st.one_of(
    st.integers(),
    st.integers(-(2**70), 2**70),
    st.text(max_size=9),
    st.text(min_size=60, max_size=70),
    st.floats(),
    st.none(),
    st.booleans(),
    st.binary(max_size=3),
)


@given(
    st.lists(
        st.tuples(st.text(max_size=3), SCALARS), min_size=1, max_size=5, unique_by=lambda f: f[0]
    ),
    st.lists(SCALARS, min_size=5, max_size=5),
    st.sampled_from((dict, list, tuple)),
)
def test_labels_found_without_parsing_are_those_that_parsing_finds(fields, others, kind):
    first = dict(fields) if kind is dict else kind(value for _, value in fields)
    keys = list(first) if kind is dict else range(len(first))
    like = [dict(zip(first, others, strict=False)) if kind is dict else kind(others[: len(first)])]
    payload, *more = (SampleCodec().encode(one, 0).members[0][1] for one in (first, *like))
    flat = flat_json(payload, list(keys))
    found = None if flat is None else flat.labels([payload, *more, payload])
    if found is not None:
        for key, counts in zip(keys, found, strict=True):
            labels = [label_bytes(sample[key]) for sample in (first, *like, first)]
            assert counts == Counter(label for label in labels if label is not None)


def test_labels_are_found_without_parsing_in_what_most_samples_are():
    flat = flat_json(b'{"$tuple":["some text",3]}', [0, 1])
    assert flat is not None
    both = [b'{"$tuple":["other",-12]}', b'{"$tuple":["%b",-12]}' % (b"x" * 65)]
    assert flat.labels(both) == [{b"other": 1}, {b"-12": 2}]
    assert flat.labels([*both, b'{"$tuple":["a \\" in it",1]}']) is None
    flat = flat_json(b'{"text":"x","score":0.5,"label":7}', ["label"])
    assert flat is not None
    assert flat.labels([b'{"text":"yz","score":1e-7,"label":8}']) == [{b"8": 1}]
    assert flat.labels([b'{"text":"yz","score":1e-7,"label":1234567890123456789}']) is None


@given(st.lists(st.one_of(st.integers(), st.text(max_size=9), LISTS), min_size=2, max_size=4))
def test_a_last_label_found_without_parsing_is_the_label(values):
    for sample in (values, tuple(values)):
        payload = SampleCodec().encode(sample, 0).members[0][1]
        for key, value in enumerate(values):
            found = found_label(payload, key)
            assert found is None or found == b"%d" % value
    assert found_label(b'{"$tuple":["x",5]}', 1) == b"5"


def test_characters_that_reorder_text_are_replaced_wherever_others_wrote_them():
    reorder = "\u202e\u2066gpj.exe"
    page = page_of(
        [(picture(n), 0, f"{reorder} {n}", {reorder: n}) for n in range(3)],
        None,
        {f"class {reorder}": 0},
    )
    assert "\ufffd\ufffdgpj.exe" in page.text
    shown = page.text + repr(page.elements)
    assert not {*shown} & {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def test_long_names_of_classes_are_cut():
    page = page_of([(picture(n), n % 2) for n in range(4)], None, {"c" * 400: 0, "d": 1})
    assert "c" * 120 + "\u2026" in page.text
    assert "c" * 121 not in page.text
    listed = page_of([(picture(n), "text" * 30) for n in range(4)], None, {"c" * 400: 0})
    assert "c" * 120 + "\u2026 (0)" in listed.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1 << 70])
def test_nan_and_infinity_are_shown_as_text(value):
    page = page_of([(picture(n), value) for n in range(2)])
    assert repr(value) in page.text
    assert "$" not in page.text


def test_a_hundred_thousand_classes_have_their_names():
    names = {f"class {number}": number for number in range(100_000)}
    page = page_of([(picture(n), n % 40 * 1000) for n in range(80)], None, names)
    assert "100,000" in page.text
    assert "class 39000" in page.text


# A value of each kind, and what the page calls it.
KINDS = {
    "float": (1.5, "float"),
    "nan": (float("nan"), "float"),
    "int": (3, "int"),
    "long int": (1 << 80, "int"),
    "longest int": (10**5000, "int"),
    "bool": (True, "bool"),
    "none": (None, "None"),
    "complex": (1 + 2j, "complex"),
    "text": ("héllo", "text"),
    "bytes": (b"\x00\x01", "bytes"),
    "list": ([1, 2.5], "list"),
    "tuple": ((1, "a"), "tuple"),
    "dict": ({"k": [None]}, "dict"),
    "numbered dict": ({1: 2}, "dict"),
    "empty": ([], "list"),
    "long list": (list(range(20_000)), "list"),
    "tensor": (torch.zeros(3, 4), f"tensor 3 {TIMES} 4, float32"),
    "array": (np.zeros((2, 2), np.int16), f"array 2 {TIMES} 2, int16"),
    "scalar": (np.float32(1), "float32"),
    "image": (Image.new("L", (5, 4)), f"image 5 {TIMES} 4, L"),
}


def called(page):
    """Returns what the table of fields has for each."""
    rows = re.findall(
        r"<tr><th scope=\"row\"><code dir=\"auto\">(.*?)</code></th><td>(.*?)</td>", page
    )
    return {html.unescape(name): html.unescape(kind) for name, kind in rows}


def test_fields_are_named_after_their_values():
    samples = [{name: value for name, (value, _) in KINDS.items()}] * 2
    page = published(samples)["index.html"].decode()
    found = called(page)
    for name, (value, kind) in KINDS.items():
        own = {key: found[key] for key in found if key.split(".")[0] == name}
        if name in own:
            assert own[name].startswith(kind), name
        else:  # a container of values that are members of their own
            assert own, (name, value)
    assert "JSON" not in " ".join(found.values())


@pytest.mark.parametrize(
    "name", [n for n in KINDS if n not in ("tensor", "array", "scalar", "image")]
)
def test_fields_of_plain_samples_are_named_after_their_values(name):
    value, kind = KINDS[name]
    page = published([(value, 1), (value, 2)])["index.html"].decode()
    found = called(page)
    if name == "long list":  # the sample is not parsed for it
        assert found == {"sample": "tuple"}
        return
    assert found["1"] == "int"
    assert found.get("0", kind).startswith(kind)
    assert "JSON" not in " ".join(found.values())


def test_values_that_differ_in_each_sample_are_no_separate_kind():
    samples = [(b"x" * n, "y" * n, list(range(n)), wav(seconds=n / 10)) for n in range(1, 9)]
    found = called(published(samples)["index.html"].decode())
    assert found["0"] == "bytes"
    assert found["1"] == "text"
    assert found["2"] == "list"
    assert found["3"] == "bytes, WAV, 8,000 Hz"


def test_fields_without_samples_on_the_page_have_no_names_of_codecs():
    samples = [(picture(), 1.5, np.float32(1), "text", 3)]
    card = DatasetCard(name="no samples", previews=0)
    found = called(published(samples, card)["index.html"].decode())
    assert list(found.values()) == [
        "image",
        "a number, True, False, None or a container",
        "NumPy scalar",
        "text",
        "int",
    ]
