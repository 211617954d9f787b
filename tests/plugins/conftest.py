"""Fixtures for tests of transports: names and a certificate that stand for public servers."""

from __future__ import annotations

import shutil
import socket
import subprocess

import certifi
import pytest


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
    """Lets names below .example lead to this machine, and trusts the certificate."""
    monkeypatch.setattr(certifi, "where", lambda: str(certificate[0]))
    connect = socket.create_connection

    def here(address, *arguments, **options):
        host, port = address
        return connect(
            ("127.0.0.1" if host.endswith(".example") else host, port), *arguments, **options
        )

    monkeypatch.setattr(socket, "create_connection", here)
