"""Which hosts a server answers to, and whose pages may use it."""

from __future__ import annotations

import pytest

from serve.http.middleware.host_check import HostCheck

from .calls import answer, echo

APP = HostCheck(echo, ["Recommender.Example:443", "127.0.0.1", "localhost", "::1", ""])
OURS = (200, b"")
MISDIRECTED = (421, "misdirected_request")
FOREIGN = (403, "foreign_origin")


OWN_HOSTS = """
127.0.0.1 127.0.0.1:7860 192.0.2.7:80 [::1] [::1]:7860 [2001:DB8::1]:7860 localhost LocalHost:7860
localhost.:7860 recommender.example RECOMMENDER.example.:443
"""
OTHER_HOSTS = """
evil.example evil.example:7860 localhost.evil.example sub.recommender.example [::1 ::1 [::1].evil.example
recommender.example.evil.example 127.0.0.1.evil.example 127.1 2130706433 0x7f000001 [evil.example]
127.0.0.1@evil.example evil.example@127.0.0.1 127.0.0.1:80:80 127.0.0.1:port 127.0.0.1/evil.example
localhost.. löcalhost
"""


@pytest.mark.parametrize("host", OWN_HOSTS.split())
def test_addresses_localhost_and_allowed_names_pass(host) -> None:
    assert answer(APP, [("host", host)]) == OURS


@pytest.mark.parametrize("host", [*OTHER_HOSTS.split(), "", "127.0.0.1, evil.example"])
def test_other_hosts_are_refused(host) -> None:
    assert answer(APP, [("host", host)]) == MISDIRECTED
    assert answer(APP, [("host", "localhost"), ("host", host)]) == MISDIRECTED


def test_a_request_without_a_host_is_not_a_browsers() -> None:
    assert answer(APP, []) == OURS


@pytest.mark.parametrize(
    ("host", "origins", "wanted"),
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860", OURS),
        ("localhost:7860", "http://LOCALHOST:7860", OURS),
        ("[::1]:7860", "http://[::1]:7860", OURS),
        ("recommender.example", "https://recommender.example", OURS),
        ("127.0.0.1:7860", "https://recommender.example", OURS),  # a proxy that rewrites Host
        (
            "127.0.0.1:7860",
            "http://evil.example http://evil.example:7860 http://192.0.2.7 http://127.0.0.1 null "
            "http://127.0.0.1:3000 http://localhost:7860 http://127.0.0.1:7860.evil.example 127.0.0.1:7860 "
            "http://127.0.0.1:7860@evil.example chrome-extension://127.0.0.1:7860",
            FOREIGN,
        ),
        ("127.0.0.1:7860", "", FOREIGN),
        ("recommender.example", "http://127.0.0.1", FOREIGN),
        ("evil.example", "http://evil.example", MISDIRECTED),
    ],
)
def test_only_the_servers_own_pages_may_use_it(host, origins, wanted) -> None:
    for origin in origins.split(" "):
        assert answer(APP, [("host", host), ("origin", origin)]) == wanted, origin
