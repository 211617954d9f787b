"""TLS handshakes in steps: what forks wait for, and time-outs."""

from __future__ import annotations

import multiprocessing
import os
import ssl
import sys
import threading
import time

import pytest

from ipfs_dataset_core.runtime import forks
from ipfs_dataset_plugins.http.address_filter import EVERYWHERE
from ipfs_dataset_plugins.http.connection import connect
from ipfs_dataset_plugins.http.environment import _tls_context
from ipfs_dataset_plugins.http.secure_socket import SecureSocket
from tests.support.raw_server import RawServer

# How long a step still takes when the fork begins.
REST = 0.3


def answer(certificate):
    def serve(client):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        with context.wrap_socket(client, server_side=True) as secured:
            secured.sendall(secured.recv(1))

    return serve


def shake_hands(port, certificate, seconds=30.0):
    """Returns what the server answers."""
    context = _tls_context(str(certificate[0]), None)
    sock = connect("127.0.0.1", port, seconds, EVERYWHERE)
    with context.wrap_socket(sock, server_hostname="a.example") as secured:
        assert type(secured) is SecureSocket
        assert secured.gettimeout() == seconds
        secured.sendall(b"x")
        return secured.recv(1)


def test_a_connection_is_made_in_steps(certificate, monkeypatch):
    steps = []
    one = ssl.SSLSocket.do_handshake

    def count(self, block=False):
        if isinstance(self, SecureSocket):  # the server has sockets of the standard library
            steps.append([what for _, what in forks._blocks])
        one(self, block)

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", count)
    with RawServer(answer(certificate)) as server:
        assert shake_hands(server.port, certificate) == b"x"
    assert len(steps) > 1
    assert all(step == ["a step of a TLS handshake"] for step in steps)
    assert forks._blocks == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_waits_for_a_step_of_a_handshake(certificate, monkeypatch):
    begun = threading.Event()
    in_step = []
    one = ssl.SSLSocket.do_handshake

    def slowly(self, block=False):
        if not isinstance(self, SecureSocket):
            one(self, block)
            return
        in_step.append(True)
        begun.set()
        time.sleep(REST)
        try:
            one(self, block)
        finally:
            in_step.pop()

    def check():
        # The child has what its parent had at the fork.
        monkeypatch.setattr(ssl.SSLSocket, "do_handshake", one)
        sys.exit(bool(in_step) or shake_hands(server.port, certificate) != b"x")

    monkeypatch.setattr(ssl.SSLSocket, "do_handshake", slowly)
    with RawServer(answer(certificate)) as server:
        thread = threading.Thread(target=shake_hands, args=(server.port, certificate))
        thread.start()
        assert begun.wait(60)
        child = multiprocessing.get_context("fork").Process(target=check)
        child.start()
        child.join(60)
        status = child.exitcode
        child.kill()
        child.join()
        thread.join()
    assert status == 0


def test_a_fork_does_not_wait_for_a_server_that_does_not_answer(certificate):
    greeted, end = threading.Event(), threading.Event()

    def say_nothing(client):
        client.recv(65536)
        greeted.set()
        end.wait(60)

    def try_it():
        with pytest.raises((OSError, AssertionError)):
            shake_hands(server.port, certificate)

    with RawServer(say_nothing) as server:
        thread = threading.Thread(target=try_it)
        thread.start()
        assert greeted.wait(60)
        for _ in range(6000):
            if not forks._unfinished():
                break
            time.sleep(0.01)
        assert forks._unfinished() == []
        assert thread.is_alive()
        end.set()
    thread.join()


def test_a_server_that_does_not_answer_is_a_time_out(certificate):
    end = threading.Event()

    def say_nothing(client):
        end.wait(60)

    with RawServer(say_nothing) as server:
        with pytest.raises(TimeoutError, match="handshake operation timed out"):
            shake_hands(server.port, certificate, 0.2)
        end.set()
