"""Every form in which users name an object, and what is refused."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipfs_dataset_core.addressing.object_url import ObjectURL, parse_object_url, split_path
from ipfs_dataset_core.errors import AddressError

V0 = "QmdPw1vze5nwVM1fsCjygXCs8WyzDsf3hn4uq3MpMLvw9w"
V1 = "bafybeigdyrzt5sfp7udm7hu76uh7y26nf3efuylqabf3oclgtqy55fbzdi"

roots = st.sampled_from([V0, V1, "k51qzi5uqu5dgutdk6i1ynyzgkqngpha5xpgia3a5qqp4jsh0u4csozksxel2r"])
names = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
paths = st.lists(names, max_size=4).map(tuple)


def quoted(path):
    return "".join(f"/{quote(name, safe='')}" for name in path)


@pytest.mark.parametrize(
    "text",
    [
        f"ipfs://{V0}",
        f"IPFS://{V0}",
        f"ipfs://{V0}/",
        f"  ipfs://{V0}\n",
        f"ipfs://ipfs://{V0}",
        f"ipfs://ipfs://ipfs://{V0}",
        f"ipfs://ipfs/{V0}",
        f"ipfs://{V0}?filename=a.zip#part",
        V0,
        f"{V0}/",
        f"/ipfs/{V0}",
        f"/ipfs/{V0}/",
    ],
)
def test_every_form_of_url_gives_the_cid_of_its_object(text):
    assert parse_object_url(text) == ObjectURL("ipfs", V0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ipns://example.org/a", ObjectURL("ipns", "example.org", ("a",))),
        ("/ipns/example.org", ObjectURL("ipns", "example.org")),
        ("ipfs://ipns://example.org", ObjectURL("ipns", "example.org")),
        ("ipfs://ipns/example.org", ObjectURL("ipns", "example.org")),
    ],
)
def test_a_mutable_name_is_distinguished_from_a_cid(text, expected):
    assert parse_object_url(text) == expected


@pytest.mark.parametrize(
    ("text", "path", "gateway"),
    [
        (f"https://gw.example/ipfs/{V0}", (), "gateway+https://gw.example"),
        (f"HTTPS://gw.example/ipfs/{V0}/", (), "gateway+https://gw.example"),
        (f"http://127.0.0.1:8080/ipfs/{V0}/a", ("a",), "gateway+http://127.0.0.1:8080"),
        (f"http://[::1]:8080/ipfs/{V0}", (), "gateway+http://[::1]:8080"),
        (f"https://gw.example/deep/er/ipfs/{V0}/a", ("a",), "gateway+https://gw.example/deep/er"),
        (f"https://gw.example/ipfs/{V0}/ipfs/b", ("ipfs", "b"), "gateway+https://gw.example"),
        (f"https://me:secret@gw.example/ipfs/{V0}", (), "gateway+https://me:secret@gw.example"),
        (f"https://gw.example/ipfs/{V0}?t=a%26b&u=", (), "gateway+https://gw.example?t=a%26b&u="),
        (
            f"https://gw.example/ipfs/{V0}?format=car&token=x&filename=y.zip&download=true",
            (),
            "gateway+https://gw.example?token=x",
        ),
    ],
)
def test_a_path_gateway_keeps_port_prefix_credentials_and_tokens(text, path, gateway):
    assert parse_object_url(text) == ObjectURL("ipfs", V0, path, gateway)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"https://{V1}.ipfs.gw.example:8443/a%20b?token=x",
            ObjectURL("ipfs", V1, ("a b",), "gateway+https://*.ipfs.gw.example:8443?token=x"),
        ),
        (
            f"http://u:p@{V1}.ipfs.localhost:8080",
            ObjectURL("ipfs", V1, (), "gateway+http://u:p@*.ipfs.localhost:8080"),
        ),
        (
            "https://en-wikipedia--on--ipfs-org.ipns.gw.example/wiki",
            ObjectURL(
                "ipns", "en.wikipedia-on-ipfs.org", ("wiki",), "gateway+https://*.ipfs.gw.example"
            ),
        ),
    ],
)
def test_a_subdomain_gateway_has_a_star_where_the_cid_goes(text, expected):
    assert parse_object_url(text) == expected


def test_a_gateway_does_not_show_its_token():
    url = parse_object_url(f"https://gw.example/ipfs/{V0}?token=secret")
    assert url.gateway is not None
    assert "secret" in url.gateway
    assert "secret" not in repr(url) + str(url)


@given(roots, paths)
@example(V0, ("a b", "100%", "%20", "c?d", "e#f", "größe", "日本"))
@example(V0, ("ipfs", "ipns"))
@example(V0, ("a\\b", "c:d", "~", "\ud7ff", " ", "\n"))
def test_a_percent_encoded_path_is_decoded_once(root, path):
    for start, gateway in (
        (f"ipfs://{root}", None),
        (f"https://gw.example/x/ipfs/{root}", "gateway+https://gw.example/x"),
    ):
        assert parse_object_url(start + quoted(path)) == ObjectURL("ipfs", root, path, gateway)


@given(roots, paths)
def test_a_path_after_a_bare_cid_is_not_decoded(root, path):
    text = "/".join((root, *path))
    if text == text.strip() and "://" not in text:
        assert parse_object_url(text) == ObjectURL("ipfs", root, path)
        assert parse_object_url(f"/ipfs/{text}") == ObjectURL("ipfs", root, path)


@given(st.sampled_from(["ipfs", "ipns"]), roots, paths)
def test_the_text_of_a_url_parses_to_the_same_url(namespace, root, path):
    url = ObjectURL(namespace, root, path)
    if str(url) == str(url).strip():
        assert parse_object_url(str(url)) == url


def test_bytes_that_are_not_utf8_are_decoded_as_in_directories():
    assert parse_object_url(f"ipfs://{V0}/%ff").path == (
        b"\xff".decode("utf-8", "surrogateescape"),
    )


@pytest.mark.parametrize("form", ["ipfs://{}/{}", "{}/{}", "/ipfs/{}/{}", "https://g/ipfs/{}/{}"])
@pytest.mark.parametrize("path", ["..", ".", "a/../b", "a/./b", "a//b", "//", "a/..", "\0", "a//"])
def test_paths_that_servers_would_resolve_differently_are_refused(form, path):
    with pytest.raises(AddressError, match="unusable path segment"):
        parse_object_url(form.format(V0, path))


@pytest.mark.parametrize("path", ["%2e%2e", "a/%2E", "%00", "a%2F%2Fb", "..%2f"])
def test_such_paths_are_refused_in_percent_encoded_form_too(path):
    with pytest.raises(AddressError, match="unusable path segment"):
        parse_object_url(f"ipfs://{V0}/{path}")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  ",
        "/",
        "ipfs://",
        "ipfs:///a",
        "/ipfs/",
        "/ipfs",
        "/home/me/data.zip",
        "https://",
        f"https:///ipfs/{V0}",
        f"https://:80/ipfs/{V0}",
        "https://example.org/data.zip",
        f"https://gw.example:99999/ipfs/{V0}",
        f"https://gw.example:port/ipfs/{V0}",
        f"https://[::1/ipfs/{V0}",
        f"https://gw.example/\ud800/ipfs/{V0}",
        f"https://gw.example/ipfs/{V0}/\ud800",
        f"ftp://gw.example/ipfs/{V0}",
        "Qm with spaces",
        None,
        3,
        b"/ipfs/Qm",
        ["ipfs://"],
    ],
)
def test_other_text_is_an_address_error_that_quotes_it(text):
    with pytest.raises(AddressError) as caught:
        parse_object_url(text)
    assert repr(text) in str(caught.value)


def test_a_cid_is_validated_only_when_it_is_used():
    # The user's own README has a CID with one letter too many.
    assert parse_object_url(f"ipfs://{V0}w").root == f"{V0}w"


schemes = st.sampled_from(
    ["", "ipfs://", "ipns://", "/ipfs/", "/ipns/", "http://", "https://", "x://"]
)


@given(schemes, st.text(st.characters(codec=None, exclude_categories=()), max_size=60))
@example("https://", "İ.ipfs.gw/x")
@example("http://", "a.ipfs.b:٣")
@example("http://", "℀.ipfs.gw")
def test_any_text_is_a_url_or_an_address_error(scheme, rest):
    try:
        url = parse_object_url(scheme + rest)
    except AddressError:
        return
    assert url.root
    assert all(name not in ("", ".", "..") and "\0" not in name for name in url.path)


@given(st.text(st.sampled_from("a/.\0 %"), max_size=12))
def test_splitting_a_path_loses_nothing(path):
    try:
        segments = split_path(path, path)
    except AddressError:
        return
    assert "/".join(segments) == path.removesuffix("/")


@pytest.mark.parametrize(
    "text",
    [
        "/home/me/data.zip",
        "/data",
        "~/photos",
        "~me/photos",
        "./photos",
        "../photos",
        ".",
        "..",
        "file:///data/photos",
        "file:photos",
        "FILE:///data",
        "C:\\data\\photos",
        "c:/data/photos",
        "\\\\server\\photos",
        "..\\photos",
        "photos\\a.zip",
        Path("photos/a.zip"),
    ],
)
def test_the_error_of_a_local_path_tells_how_to_publish_it(text):
    told = r"is a local path.*ipfs-dataset publish .*ipfs add .*IPFSDatasetExporter"
    with pytest.raises(AddressError, match=told):
        parse_object_url(text)


@pytest.mark.parametrize("text", ["/ip4/127.0.0.1/tcp/5001", "/dns/node/tcp/5001", "/unix/run/x"])
def test_the_address_of_an_api_is_not_an_object_url(text):
    with pytest.raises(AddressError, match=r"node's API.*ipfs_api_address"):
        parse_object_url(text)


@pytest.mark.parametrize(
    "text", ["dweb:/ipfs/bafkqaaa", "gateway.example:8080/ipfs/bafkqaaa", "s3:x"]
)
def test_an_unknown_scheme_without_slashes_is_refused(text):
    with pytest.raises(AddressError, match=f"'{text}' has an unknown scheme"):
        parse_object_url(text)
