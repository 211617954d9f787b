"""Where the configuration of a node lets its gateway be looked for, without asking anybody."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_plugins.api.gateway_search import may_have_gateway, urls
from ipfs_dataset_plugins.http.endpoint import Endpoint

HERE = Endpoint("http://127.0.0.1:5001")
SOCKET = Endpoint("http://localhost", unix="/run/api.sock")
REMOTE = Endpoint("http://192.0.2.7:5001")


@pytest.mark.parametrize(
    ("api", "configured", "found"),
    [
        (HERE, "/ip4/127.0.0.1/tcp/8080", ["http://127.0.0.1:8080"]),
        (HERE, "/ip4/127.0.0.2/tcp/8080", ["http://127.0.0.2:8080"]),
        (HERE, "/ip4/0.0.0.0/tcp/8080", ["http://127.0.0.1:8080"]),
        (HERE, "/ip6/::/tcp/8080", ["http://[::1]:8080"]),
        (Endpoint("http://[::1]:5001"), "/ip6/::1/tcp/80/http", ["http://[::1]:80"]),
        (Endpoint("http://[::1]:5001"), "/ip4/127.0.0.1/tcp/80", ["http://127.0.0.1:80"]),
        (SOCKET, "/ip4/127.0.0.1/tcp/8080", ["http://127.0.0.1:8080"]),
        (SOCKET, "/ip4/0.0.0.0/tcp/8080", ["http://127.0.0.1:8080"]),
        (REMOTE, "/ip4/0.0.0.0/tcp/8080", ["http://192.0.2.7:8080"]),
        (REMOTE, "/ip4/192.0.2.7/tcp/8080", ["http://192.0.2.7:8080"]),
        (
            HERE,
            ["/ip4/127.0.0.1/tcp/1", "/ip6/::1/tcp/2"],
            ["http://127.0.0.1:1", "http://[::1]:2"],
        ),
    ],
)
def test_it_is_looked_for_where_the_node_listens_on_the_host_of_the_api(api, configured, found):
    assert list(urls(api, configured)) == found


@pytest.mark.parametrize(
    ("api", "configured"),
    [
        (HERE, "/ip4/192.0.2.9/tcp/8080"),
        (HERE, "/dns4/gateway.example/tcp/8080"),
        (HERE, "/dns4/localhost.example/tcp/8080"),
        (HERE, "/ip4/127.0.0.1/tcp/8080/https"),
        (HERE, "/ip4/127.0.0.1/tcp/0"),
        (HERE, "/unix/run/docker.sock"),
        (SOCKET, "/unix/run/docker.sock"),
        (HERE, "http://127.0.0.1:8080"),
        (HERE, ""),
        (HERE, []),
        (HERE, None),
        (HERE, 8080),
        (HERE, {"a": 1}),
        (HERE, [None, ["/ip4/127.0.0.1/tcp/1"]]),
        (REMOTE, "/ip4/127.0.0.1/tcp/8080"),
        (REMOTE, "/ip6/::1/tcp/8080"),
    ],
)
def test_what_leads_elsewhere_is_left_alone(api, configured):
    assert list(urls(api, configured)) == []


def test_another_address_of_a_remote_node_is_taken_for_its_port_alone():
    assert list(urls(REMOTE, "/ip4/198.51.100.1/tcp/8080")) == ["http://192.0.2.7:8080"]


def test_a_list_without_end_is_not_tried_to_its_end():
    assert len(list(urls(HERE, ["/ip4/127.0.0.1/tcp/1"] * 1000))) == 4


@given(st.text(string.printable + "é\0", max_size=60) | st.from_regex(r"/ip[46]/[^/]*/tcp/[0-9]*"))
def test_no_text_leads_away_from_this_machine(configured):
    for url in urls(HERE, configured):
        assert url.startswith(("http://127.", "http://[::1]:"))


@pytest.mark.parametrize(
    "url", ["https://node.example", "http://127.0.0.1/node7", "https://1.2.3.4:1"]
)
def test_behind_a_proxy_there_is_none(url):
    assert not may_have_gateway(Endpoint(url))
    assert may_have_gateway(HERE)
    assert may_have_gateway(SOCKET)
