"""What is public and what is not, by name and by address."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import is_public_address
from ipfs_dataset_plugins.http.address_filter import (
    EVERYWHERE,
    PUBLIC,
    AddressFilter,
    is_private,
)
from ipfs_dataset_plugins.http.endpoint import is_loopback


@pytest.mark.parametrize(
    "address",
    [
        *("93.184.215.14", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.0.1", "172.32.0.1"),
        *("192.0.1.1", "192.167.0.1", "198.17.0.1", "223.255.255.255", "169.253.0.1"),
        *("2606:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "3ffe::1"),
        *("::ffff:1.1.1.1", "64:ff9b::1.1.1.1"),
    ],
)
def test_public_addresses(address):
    assert is_public_address(address)
    assert PUBLIC.allows(address, 443)
    assert not is_private(f"https://{f'[{address}]' if ':' in address else address}/")


@pytest.mark.parametrize(
    "address",
    [
        # this network, private, carrier-grade NAT, loopback, link-local with the clouds' metadata services
        *(
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.9.9.9",
        ),
        *("169.254.169.254", "172.16.0.1", "172.31.255.255", "192.168.1.1", "168.63.129.16"),
        # protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved, broadcast
        *("192.0.0.1", "192.0.0.192", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.51.100.1"),
        *("203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"),
        # IPv6: unspecified, loopback, unique local, link-local, site-local, multicast, discard, documentation
        *("::", "::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1"),
        *("ff0e::1", "100::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1"),
        # transition: v4-mapped, v4-compatible, v4-translated, NAT64, local NAT64, 6to4, Teredo, ISATAP
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "::ffff:0:7f00:1"),
        *("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1.1.1.1", "2002:7f00:1::1"),
        *("2002:0a00:0001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:2::1", "2001:20::1"),
        *("2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:10.0.0.1"),
    ],
)
def test_addresses_of_this_machine_and_of_private_networks(address):
    assert not is_public_address(address)
    assert not PUBLIC.allows(address, 443)
    assert EVERYWHERE.allows(address, 443)
    host = f"[{address.replace('%', '%25')}]" if ":" in address else address
    assert is_private(f"https://{host}/")


@given(st.ip_addresses())
def test_what_python_takes_for_private_is_never_public(address):
    if not address.is_global or address.is_multicast:
        embedded = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
        assert not is_public_address(str(address)) or embedded


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST.", "x.localhost", "router", "printer.local", "x.LOCAL."),
        *(
            "metadata.google.internal",
            "host.docker.internal",
            "x.home.arpa",
            "1.0.0.127.in-addr.arpa",
        ),
        *("router.lan", "nas.home", "git.corp", "wiki.intranet", "x.private", "host.localdomain"),
        *("kubernetes.default.svc", "x.svc.cluster.local", "x.test", "x.invalid"),
        *("2130706433", "0177.0.0.1", "127.1", "0x7f.1", "0x7f000001", "127.0.0.0x1"),
    ],
)
def test_names_of_this_machine_and_of_private_networks(host):
    assert is_private(f"https://{host}/")


@pytest.mark.parametrize(
    "host", ["a.example", "dweb.link", "local.example", "lan.dweb.link", "a1.b2"]
)
def test_names_that_may_be_public(host):
    assert not is_private(f"https://{host}/")


def test_a_peer_is_allowed_at_its_port_alone():
    allowed = AddressFilter(public_only=True, peers=frozenset({("10.0.0.5", 443)}))
    assert allowed.allows("10.0.0.5", 443)
    assert not allowed.allows("10.0.0.5", 22)
    assert not allowed.allows("10.0.0.6", 443)
    assert allowed.allows("1.1.1.1", 22)


def test_what_is_this_machine():
    assert all(map(is_loopback, ["localhost", "a.LOCALHOST.", "127.0.0.1", "127.3.2.1", "::1"]))
    assert not any(map(is_loopback, ["localhost.example", "10.0.0.1", "::2", ""]))
