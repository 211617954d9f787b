"""Fixtures for tests of transports: names and a certificate that stand for public servers."""

from __future__ import annotations

import shutil
import subprocess

import certifi
import pytest

from ipfs_dataset_plugins.http import connection


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate for two names that only the tests' resolver knows."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    key, cert = folder / "key.pem", folder / "cert.pem"
    names = "subjectAltName=DNS:a.example,DNS:b.example"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=t", "-addext", names, "-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


@pytest.fixture
def names(monkeypatch, certificate):
    """Gives names below .example a public address, at which this machine answers; trusts the certificate.

    Returns:
        What names resolve to; tests may add to it.
    """
    monkeypatch.setattr(certifi, "where", lambda: str(certificate[0]))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    return resolving(monkeypatch)


@pytest.fixture
def resolver(monkeypatch):
    """The same without a certificate."""
    return resolving(monkeypatch)


PUBLIC = "93.184.215.14"


def resolving(monkeypatch):
    """Replaces the resolver and the last step of a connection; what is between them is the real thing."""
    addresses: dict[str, list[str]] = {}
    lookup, dial = connection.lookup, connection.dial

    def found(host, port):
        if host not in addresses and not host.endswith(".example"):
            return lookup(host, port)
        texts = addresses.get(host, [PUBLIC])
        return [address for text in texts for address in lookup(text, port)]

    def here(address, seconds):
        if address.host == PUBLIC:
            [address] = lookup("127.0.0.1", address.sockaddr[1])
        return dial(address, seconds)

    monkeypatch.setattr(connection, "lookup", found)
    monkeypatch.setattr(connection, "dial", here)
    return addresses
