import pytest
from hypothesis import given
from hypothesis import strategies as st
from yarl import URL

from schemas.reasons import Reason, Rejected
from transforms.fetching.urls import parse_url, redirect_target


@pytest.mark.parametrize(
    ("text", "requested"),
    [
        ("http://h.test", "http://h.test/"),
        ("  HTTP://H.test/A b  ", "http://h.test/A%20b"),
        ("http://h.test/a%20b/ü.jpg?x=a%2Bb%20c+d", "http://h.test/a%20b/%C3%BC.jpg?x=a%2Bb%20c+d"),
        ("https://h.test/k?X-Amz-Signature=%7Eab%2f&Expires=1", "https://h.test/k?X-Amz-Signature=%7Eab%2f&Expires=1"),
        ("http://h.test/100%.jpg", "http://h.test/100%.jpg"),
        ("http://h.test/a?b=[1]|2#part", "http://h.test/a?b=%5B1%5D%7C2"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://日本語.jp/", "http://xn--wgv71a119e.jp/"),
        ("http://xn--bcher-kva.example:8080/", "http://xn--bcher-kva.example:8080/"),
        ("http://a_b.example/", "http://a_b.example/"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://us%20er:pass@h.test/", "http://us%20er:pass@h.test/"),
        ("http://h.test/line\nbreak", "http://h.test/linebreak"),
        ("http://１２７.0.0.1/", "http://127.0.0.1/"),
    ],
)
def test_what_is_requested(text: str, requested: str) -> None:
    assert str(parse_url(text)) == requested


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no scheme",
        "ftp://h.test/x",
        "file:///etc/passwd",
        "http://",
        "http:///x",
        "http://h.test:99999/",
        "http://h.test:x/",
        "http://[::1",
        "http://ex ample/",
        "http://ex%41mple/",
        "http://localhost%00.test/",
        "http://a..b/",
        "http://" + "a" * 64 + ".test/",
        "http://h.test\\@other.test/",
    ],
)
def test_what_cannot_be_requested(text: str) -> None:
    with pytest.raises(Rejected) as why:
        parse_url(text)
    assert why.value.reason is Reason.BAD_URL


@given(st.text(max_size=40), st.sampled_from(["", "http://", "https://[", "http://h.test/", "http://h.test?", "//"]))
def test_any_text_is_a_url_or_a_bad_url(text: str, start: str) -> None:
    try:
        url = parse_url(start + text)
    except Rejected:
        return
    assert url.scheme in ("http", "https")
    assert url.raw_host
    assert str(url).isascii()
    assert parse_url(str(url)) == url


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/new.jpg", "http://h.test:81/new.jpg"),
        ("new.jpg", "http://h.test:81/old/new.jpg"),
        ("../new%20é.jpg", "http://h.test:81/new%20%C3%A9.jpg"),
        ("//cdn.test/x", "http://cdn.test/x"),
        ("https://h.test/x", "https://h.test/x"),
        ("?size=2", "http://h.test:81/old/a.jpg?size=2"),
        ("/caf\udce9.jpg", "http://h.test:81/caf%E9.jpg"),
    ],
)
def test_where_a_redirect_leads(location: str, target: str) -> None:
    assert str(redirect_target(URL("http://h.test:81/old/a.jpg"), location)) == target


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "data:,x", "gs://b/o", "ftp://h.test/", "javascript:alert(1)"]
)
def test_a_redirect_stays_on_the_web(location: str) -> None:
    with pytest.raises(Rejected) as why:
        redirect_target(URL("http://h.test/"), location)
    assert why.value.reason is Reason.FORBIDDEN_ADDRESS
