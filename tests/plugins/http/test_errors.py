"""Typed errors for responses that are not a success, and what they tell the user."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfs_dataset_core import Options, RateLimitedError
from ipfs_dataset_plugins.http.client import HTTPClient
from ipfs_dataset_plugins.http.endpoint import parse_endpoint
from ipfs_dataset_plugins.http.errors import advice, error_for_status, retry_after
from tests.support.builders import noise
from tests.support.http_server import FaultServer, Plan, html, rate_limited

DATA = noise(200_000)


def failure(plan):
    with FaultServer(lambda _: plan) as server:
        made = HTTPClient(parse_endpoint(server.url), Options(timeout=5))
        body = made.send("GET", "/x", "x")
        error = error_for_status(body.status, body.headers, "x", body.error_text())
        made.close()
    return error


@pytest.mark.parametrize(
    ("status", "retryable"), [(400, False), (403, False), (404, False), (500, True), (503, True)]
)
def test_errors_say_whether_to_retry_and_what_the_server_said(status, retryable):
    error = failure(Plan(status=status, body=b"no\n  such   thing"))
    assert error.retryable is retryable
    assert str(error) == f"x: HTTP {status} no such thing{advice(status)}"


def test_pages_are_not_quoted_nor_are_bodies_that_do_not_come():
    assert str(failure(html(status=500))) == f"x: HTTP 500 (an HTML page){advice(500)}"
    assert str(failure(Plan(status=500, body=DATA, stall_at=10))) == f"x: HTTP 500{advice(500)}"
    assert len(str(failure(Plan(status=500, body=b"a" * 100_000)))) < 700


def test_too_many_requests_says_how_long_to_wait_unless_the_service_has_ended():
    limited = failure(rate_limited("7"))
    assert isinstance(limited, RateLimitedError)
    assert limited.retry_after == 7
    sunset = Plan(status=429, headers={"Sunset": "Mon, 21 Sep 2020 00:00:00 GMT"})
    assert not failure(sunset).retryable


def test_retry_after_is_seconds_or_a_date():
    assert retry_after(None) is None
    assert retry_after(" 12 ") == 12
    assert retry_after("Mon, 21 Sep 2020 00:00:00 GMT") == 0
    assert retry_after("Mon, 21 Sep 2020 00:00:00 -0000") == 0
    assert (retry_after("Fri, 31 Dec 9999 23:59:59 GMT") or 0) > 0


@given(st.text(max_size=30))
def test_any_retry_after_is_a_number_or_unusable(value):
    wait = retry_after(value)
    assert wait is None or wait >= 0
