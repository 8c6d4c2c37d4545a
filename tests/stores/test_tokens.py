from __future__ import annotations

import time

import pytest

from durabletask_payloads._errors import PayloadTokenError
from durabletask_payloads.stores._tokens import (
    PayloadToken,
    check_container_name,
    name_in_container,
    new_name,
    normal_account_url,
)

HEX = "0123456789abcdef" * 2


@pytest.mark.parametrize(
    ("text", "token"),
    [
        (f"blob:v1:payloads:{HEX}", PayloadToken("payloads", HEX)),
        (f"blob:v1:{'a' * 63}:{HEX}", PayloadToken("a" * 63, HEX)),
        (f"blob:v1:a-1:{HEX}", PayloadToken("a-1", HEX)),
        # Folders as the Python SDK makes them: an instance id as it is.
        (f"blob:v1:payloads:order 7/{HEX}", PayloadToken("payloads", f"order 7/{HEX}")),
        (f"blob:v1:payloads:@counter@a:b/{HEX}", PayloadToken("payloads", f"@counter@a:b/{HEX}")),
        (f"blob:v1:payloads:a/b/{HEX}", PayloadToken("payloads", f"a/b/{HEX}")),
        (f"blob:v1:payloads:%2E%2E%2Fx/{HEX}", PayloadToken("payloads", f"%2E%2E%2Fx/{HEX}")),
        (f"blob:v1:payloads:...z/{HEX}", PayloadToken("payloads", f"...z/{HEX}")),
        (f"blob:v1:payloads:\u00e9\U0001f600/{HEX}", PayloadToken("payloads", f"\u00e9\U0001f600/{HEX}")),
        (f"blob:v1:payloads:{'i' * 991}/{HEX}", PayloadToken("payloads", f"{'i' * 991}/{HEX}")),
        (
            f"blob:v2:https://account.blob.core.windows.net/payloads/{HEX}",
            PayloadToken("payloads", HEX, "https://account.blob.core.windows.net"),
        ),
        (
            f"blob:v2:http://127.0.0.1:10000/devstoreaccount1/payloads/{HEX}",
            PayloadToken("payloads", HEX, "http://127.0.0.1:10000/devstoreaccount1"),
        ),
        (f"blob:v2:https://[::1]:8443/acc/payloads/{HEX}", PayloadToken("payloads", HEX, "https://[::1]:8443/acc")),
    ],
)
def test_parsed_and_printed(text: str, token: PayloadToken) -> None:
    assert PayloadToken.parse(text) == token
    assert str(token) == text
    assert token.version == int(text[6])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "blob:v1:",
        "blob:v1:a:b",
        f"blob:v3:payloads:{HEX}",
        f"BLOB:v1:payloads:{HEX}",
        f" blob:v1:payloads:{HEX}",
        f"blob:v1:payloads:{HEX}\n",
        f"blob:v1:payloads:{HEX} ",
        f"blob:v1:payloads:{HEX}0",
        f"blob:v1:payloads:{HEX[1:]}",
        f"blob:v1:payloads:{HEX.upper()}",
        f"blob:v1:payloads:{HEX[:-1]}g",
        f"blob:v1:payloads:\u0661{HEX[1:]}",  # a digit, but none of ASCII
        f"blob:v1:pa:{HEX}",
        f"blob:v1:{'a' * 64}:{HEX}",
        f"blob:v1:-payloads:{HEX}",
        f"blob:v1:payloads-:{HEX}",
        f"blob:v1:pay--loads:{HEX}",
        f"blob:v1:Payloads:{HEX}",
        f"blob:v1:$root:{HEX}",
        f"blob:v1:payloads/x:{HEX}",
        f"blob:v1:payloads:/{HEX}",
        f"blob:v1:payloads:a//{HEX}",
        f"blob:v1:payloads:../{HEX}",
        f"blob:v1:payloads:./{HEX}",
        f"blob:v1:payloads:a/../{HEX}",
        f"blob:v1:payloads:a\\..\\b/{HEX}",
        f"blob:v1:payloads:a\nb/{HEX}",
        f"blob:v1:payloads:a\x00b/{HEX}",
        f"blob:v1:payloads:a\x85b/{HEX}",
        f"blob:v1:payloads:\ud800/{HEX}",
        f"blob:v1:payloads:{'i' * 992}/{HEX}",
        f"blob:v2:ftp://account.blob.core.windows.net/payloads/{HEX}",
        f"blob:v2:https://user@account.blob.core.windows.net/payloads/{HEX}",
        f"blob:v2:https://user:key@account.blob.core.windows.net/payloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net/payloads/{HEX}?sv=1",
        f"blob:v2:https://account.blob.core.windows.net/payloads/{HEX}#x",
        f"blob:v2:https://account.blob.core.windows.net/payloads/x/y/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net/payloads/../{HEX}",
        f"blob:v2:https://account.blob.core.windows.net/%70ayloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net//payloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net\\payloads/{HEX}",
        f"blob:v2:https://Account.blob.core.windows.net/payloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net:0/payloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net:/payloads/{HEX}",
        f"blob:v2:https:///payloads/{HEX}",
        f"blob:v2:https://account.blob.core.windows.net/{HEX}",
        f"blob:v2:payloads:{HEX}",
    ],
)
def test_text_of_a_user(text: str) -> None:
    assert PayloadToken.parse(text) is None
    with pytest.raises(PayloadTokenError, match=rf"^a text of {len(text)} characters is no token"):
        PayloadToken.require(text)


def test_long_text_costs_nothing() -> None:
    texts = f"blob:v1:payloads:{'a/' * 5_000_000}{HEX}", f"blob:v2:https://{'a' * 10_000_000}"
    begin = time.perf_counter()
    for text in texts * 5_000:
        PayloadToken.parse(text)
    # A regular expression, or one copy of it, would take minutes.
    assert time.perf_counter() - begin < 20


def test_hostile_text_is_read_in_linear_time() -> None:
    begin = time.perf_counter()
    for text in (f"blob:v1:payloads:{'a/' * 500}!", f"blob:v1:{'a-' * 500}!", f"blob:v2:https://{'a.' * 500}!"):
        for _ in range(100):
            assert PayloadToken.parse(text) is None
    assert time.perf_counter() - begin < 20


def test_names_are_random() -> None:
    names = {new_name() for _ in range(1000)}
    assert len(names) == 1000
    # All 128 bits vary: a UUID would have six fixed ones.
    assert all(len({name[digit] for name in names}) == 16 for digit in range(32))


def test_name_in_container() -> None:
    assert name_in_container(f"blob:v1:payloads:{HEX}", "payloads") == HEX
    for elsewhere in (f"blob:v1:secrets:{HEX}", f"blob:v2:https://a.blob.core.windows.net/payloads/{HEX}"):
        with pytest.raises(PayloadTokenError, match="points out of the container 'payloads'"):
            name_in_container(elsewhere, "payloads")


@pytest.mark.parametrize("name", ["ab", "a" * 64, "-ab", "ab-", "a--b", "Abc", "a_b", "$root", "abc\n", ""])
def test_container_names(name: str) -> None:
    with pytest.raises(ValueError, match="container_name is"):
        check_container_name(name)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://Account.Blob.core.windows.net/", "https://account.blob.core.windows.net"),
        ("HTTPS://account.blob.core.windows.net:443", "https://account.blob.core.windows.net"),
        ("http://localhost:80/acc/", "http://localhost/acc"),
        ("http://127.0.0.1:10000/devstoreaccount1", "http://127.0.0.1:10000/devstoreaccount1"),
        ("https://[::1]:8443/acc", "https://[::1]:8443/acc"),
    ],
)
def test_account_url(url: str, normal: str) -> None:
    assert normal_account_url(url) == normal


@pytest.mark.parametrize(
    "url",
    [
        "account",
        "ftp://account.blob.core.windows.net",
        "https://account.blob.core.windows.net?sig=hush",
        "https://account.blob.core.windows.net#hush",
        "https://me:hush@account.blob.core.windows.net",
        "https://account.blob.core.windows.net/a/hush",
        "https://account.blob.core.windows.net:hush",
        "https://account.blob.core.windows.net:70000",
        "http://[::1/hush",
    ],
)
def test_no_account_url(url: str) -> None:
    with pytest.raises(ValueError, match="the account URL") as caught:
        normal_account_url(url)
    assert "hush" not in str(caught.value)
