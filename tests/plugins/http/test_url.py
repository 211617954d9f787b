from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_plugins.http.request import Request
from ipfs_dataset_plugins.http.url import Origin, origin_of, parse_url, target_of

hosts = st.sampled_from(["a.example", "A.Example", "[::1]", "10.0.0.1", "bücher.example", "a_b"])
ports = st.sampled_from(["", ":", ":80", ":443", ":8080"])


@pytest.mark.parametrize(
    ("url", "origin", "host_field", "target"),
    [
        ("http://A.example", ("http", "a.example", 80), "a.example", "/"),
        ("https://a.example:443/x?", ("https", "a.example", 443), "a.example", "/x"),
        ("http://a.example:443/?a#b", ("http", "a.example", 443), "a.example:443", "/?a"),
        ("http://[FE80::1]:81/a b", ("http", "fe80::1", 81), "[fe80::1]:81", "/a%20b"),
        ("http://[fe80::1%25lo]/", ("http", "fe80::1%lo", 80), "[fe80::1]", "/"),
        ("https://bücher.example/ü?ü", None, "xn--bcher-kva.example", "/%C3%BC?%C3%BC"),
        ("https://a.example/1%?2%&3", None, "a.example", "/1%25?2%25&3"),
        ("https://a.example/%41?t=%2F&u=a/b", None, "a.example", "/%41?t=%2F&u=a/b"),
    ],
)
def test_what_a_url_is_asked_for(url, origin, host_field, target):
    parts = parse_url(url)
    found = origin_of(parts)
    assert origin is None or found == Origin(*origin)
    assert (found.host_field, target_of(parts)) == (host_field, target)


@pytest.mark.parametrize(
    "url",
    [
        *("", "/x", "a.example", "ftp://a.example", "http://", "http://:80", "http://me@a.example"),
        *("http://a:b", "http://a:99999", "http://a:-1", "http://[::1", "http://[x]", "http://a b"),
        *("http://a\\b", "http://a%2fb", "http://a\0b", f"http://{'ü' * 99}.example"),
    ],
)
def test_what_is_no_url_of_a_server_is_refused(url):
    with pytest.raises(ValueError, match=r"\S"):
        parse_url(url)


@given(
    st.text(max_size=40) | st.builds("http://{}{}/{}".format, hosts, ports, st.text(max_size=20))
)
def test_whatever_is_accepted_can_be_sent_and_is_its_own_form(url):
    try:
        parts = parse_url(url)
    except ValueError:
        return
    assert Request("GET", target_of(parts), {"Host": origin_of(parts).host_field}, (), "x")
    again = parse_url(parts.geturl())
    assert origin_of(again) == origin_of(parts)
    assert again.geturl() == parts.geturl()
    assert urlsplit(parts.geturl()).hostname == parts.hostname


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("straße.example", "xn--strae-oqa.example"),  # in the rules of 2003, strasse.example
        ("STRASSE.example", "strasse.example"),
        ("faß.example", "xn--fa-hia.example"),
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("\uff25\uff38\uff21\uff2d\uff30\uff2c\uff25.example", "example.example"),
        ("\uff11\uff12\uff17.\uff10.\uff10.\uff11", "127.0.0.1"),
    ],
)
def test_international_names_are_those_that_browsers_look_up(host, expected):
    assert origin_of(parse_url(f"http://{host}/")).host == expected
