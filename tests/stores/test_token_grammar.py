"""The grammar of tokens, character by character and length by length, against rules written another way."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import pytest

from durabletask_payloads.stores._tokens import (
    DEFAULT_CONTAINER,
    TOKEN_PREFIXES,
    PayloadToken,
    check_container_name,
    is_bare_name,
    new_name,
    normal_account_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable

HEX = "0123456789abcdef" * 2
ALPHANUMERIC = set(string.ascii_lowercase + string.digits)
HEX_DIGITS = set("0123456789abcdef")
# All of Latin, some digits and letters of other scripts, the separators of lines, both ends of the surrogates.
CODES = (*range(0x250), 0x661, 0x2027, 0x2028, 0x2029, 0x202A, 0xD7FF, 0xD800, 0xDABC, 0xDFFF, 0xE000, 0xFF10, 0x1F600)
CHARACTERS = [chr(code) for code in CODES]


def v1(container: str = "payloads", name: str = HEX) -> str:
    return f"blob:v1:{container}:{name}"


def v2(account: str = "https://account", container: str = "payloads", name: str = HEX) -> str:
    return f"blob:v2:{account}/{container}/{name}"


def in_segment(character: str) -> bool:
    code = ord(character)
    is_control = code < 0x20 or 0x7F <= code <= 0x9F or code in (0x2028, 0x2029)
    return not is_control and not 0xD800 <= code <= 0xDFFF and character != "\\"


GRAMMAR: dict[str, tuple[Callable[[str], str], Callable[[str], bool]]] = {
    "container begins": (lambda c: v1(f"{c}ayloads"), ALPHANUMERIC.__contains__),
    "container": (lambda c: v1(f"pay{c}loads"), (ALPHANUMERIC | {"-"}).__contains__),
    "container ends": (lambda c: v1(f"payload{c}"), ALPHANUMERIC.__contains__),
    "container after a hyphen": (lambda c: v1(f"pay-{c}oads"), ALPHANUMERIC.__contains__),
    "container of v2": (lambda c: v2(container=f"pay{c}loads"), (ALPHANUMERIC | {"-"}).__contains__),
    "digit": (lambda c: v1(name=f"{HEX[1:]}{c}"), HEX_DIGITS.__contains__),
    "digit of v2": (lambda c: v2(name=f"{HEX[1:]}{c}"), HEX_DIGITS.__contains__),
    "segment": (lambda c: v1(name=f"a{c}b/{HEX}"), in_segment),
    "host begins": (lambda c: v2(f"https://{c}ost.net"), ALPHANUMERIC.__contains__),
    "host": (lambda c: v2(f"https://h{c}st.net"), (ALPHANUMERIC | {".", "-"}).__contains__),
    "host ends": (lambda c: v2(f"https://host.ne{c}"), ALPHANUMERIC.__contains__),
    "host of one character": (lambda c: v2(f"https://{c}"), ALPHANUMERIC.__contains__),
    "IPv6": (lambda c: v2(f"https://[::{c}]"), (HEX_DIGITS | {":", "."}).__contains__),
    "port begins": (lambda c: v2(f"https://host:{c}0"), set("123456789").__contains__),
    "port": (lambda c: v2(f"https://host:1{c}"), set(string.digits).__contains__),
    "account": (lambda c: v2(f"https://host/ab{c}cd"), ALPHANUMERIC.__contains__),
}


@pytest.mark.parametrize("place", GRAMMAR)
def test_each_character_in_its_place(place: str) -> None:
    text_with, is_allowed = GRAMMAR[place]
    for character in CHARACTERS:
        if character == "/" and place in ("container of v2", "host", "port", "account"):
            continue  # it leads to another form: see the account URLs below
        token = PayloadToken.parse(text_with(character))
        assert (token is not None) is is_allowed(character), f"{character!r} in {text_with('?')}"
        assert token is None or str(token) == text_with(character)


LENGTHS: dict[str, tuple[Callable[[int], str], int, int]] = {
    "container": (lambda count: v1("a" * count), 3, 63),
    "container of letters": (lambda count: v1("m" * count), 3, 63),
    "container of digits": (lambda count: v1("5" * count), 3, 63),
    "container of v2": (lambda count: v2(container="a" * count), 3, 63),
    "name": (lambda count: v1(name=f"{'i' * (count - 33)}/{HEX}"), 34, 1024),
    "name, longest container": (lambda count: v1("a" * 63, f"{'i' * (count - 33)}/{HEX}"), 34, 1024),
    "digits": (lambda count: v1(name="0" * count), 32, 32),
    "digits of v2": (lambda count: v2(name="0" * count), 32, 32),
    "port": (lambda count: v2(f"https://host:{'1' * count}"), 1, 5),
    "account": (lambda count: v2(f"https://host/{'a' * count}"), 3, 24),
}


@pytest.mark.parametrize("part", LENGTHS)
def test_each_length(part: str) -> None:
    text_of, shortest, longest = LENGTHS[part]
    for count in (shortest, longest):
        assert PayloadToken.parse(text_of(count)) is not None, count
    for count in (shortest - 1, longest + 1, longest + 2):
        assert PayloadToken.parse(text_of(count)) is None, count


def test_a_container_that_goes_on_with_a_hyphen_is_too_long() -> None:
    assert PayloadToken.parse(v1(f"{'a' * 61}-a")) is not None
    assert PayloadToken.parse(v1(f"{'a' * 63}-a")) is None


@pytest.mark.parametrize(("folder", "is_one"), [(".", False), ("..", False), ("...", True), (".a", True), ("a.", True)])
def test_folders_of_dots(folder: str, is_one: bool) -> None:
    for text in (v1(name=f"{folder}/{HEX}"), v1(name=f"a/{folder}/{HEX}"), v1(name=f"{folder}/a/{HEX}")):
        assert (PayloadToken.parse(text) is not None) is is_one


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("account", ["", "/acc"])
@pytest.mark.parametrize("port", ["", ":1", ":65535"])
@pytest.mark.parametrize("host", ["a", "account.blob.core.windows.net", "127.0.0.1", "[::1]", "[fe80::ab:10.0.0.9]"])
def test_account_urls(scheme: str, host: str, port: str, account: str) -> None:
    url = f"{scheme}://{host}{port}{account}"
    assert PayloadToken.parse(v2(url)) == PayloadToken("payloads", HEX, url)
    assert normal_account_url(url) == url


def test_a_port_that_is_none() -> None:
    with pytest.raises(ValueError, match="no valid host and port"):
        normal_account_url("https://host:0")


@pytest.mark.parametrize("name", ["abc", "a-b", "0-9-a-z", "durabletask-payloads", "a" * 63])
def test_names_of_containers(name: str) -> None:
    check_container_name(name)


def test_names_of_payloads() -> None:
    assert is_bare_name(HEX)
    assert is_bare_name(new_name())
    assert not any(is_bare_name(name) for name in ("", HEX[1:], f"{HEX}0", f"a/{HEX}", f"{HEX}\n", HEX.upper()))


def test_what_other_sdks_count_on() -> None:
    assert TOKEN_PREFIXES == (b"blob:v1:", b"blob:v2:")
    assert DEFAULT_CONTAINER == "durabletask-payloads"
