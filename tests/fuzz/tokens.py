"""Targets: payload tokens of all kinds, against parsers of their grammars that use no regular expression."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

from tests.fuzz.engine import SECRET, Target, outcome
from tests.fuzz.mutator import HEX, any_character, any_name, digits, mutated_text

from durabletask_payloads import InMemoryPayloadStore, PayloadNotFoundError, PayloadTokenError
from durabletask_payloads.stores._object_tokens import Location, ObjectToken
from durabletask_payloads.stores._tokens import PayloadToken

if TYPE_CHECKING:
    from random import Random

_LOWER: Final = string.ascii_lowercase + string.digits
_NAME: Final = "0123456789abcdef" * 2
_FRAGMENTS: Final = [
    *("blob:v1:", "blob:v2:", "object:v1:", "blob:v1:payloads:", "blob:v2:https://", "https://", "http://", "HTTPS://"),
    *("s3://", "gs://", "az://", "[::1]", "@", ":", ":443", ":0", ":65536", "/", "//", "/./", "/../", "..", "--", "-"),
    *("?sig=", "#", "%2F", "\\", "%2e%2e", ".blob.core.windows.net", "devstoreaccount1", _NAME, SECRET, "a" * 63),
]


# ---- the grammars, as documented -------------------------------------------------------------------------------------


def is_container(name: str) -> bool:
    """Return whether Azure takes `name` for a container."""
    runs = name.split("-")
    return 3 <= len(name) <= 63 and all(runs) and set(name) <= {*_LOWER, "-"}


def is_name(text: str) -> bool:
    """Return whether `text` is 32 hex digits."""
    return len(text) == 32 and set(text) <= set(HEX)


def is_account_url(url: str) -> bool:
    """Return whether `url` is an account URL as v2 tokens have it."""
    scheme, separator, rest = url.partition("://")
    authority, slash, account = rest.partition("/")
    if authority.startswith("["):
        host, bracket, port = authority[1:].partition("]")
        has_host = bool(bracket and host) and set(host) <= {*HEX, ":", "."}
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = authority.partition(":")
        has_host = bool(host) and set(host) <= {*_LOWER, ".", "-"} and host[0] in _LOWER and host[-1] in _LOWER
    has_port = colon == ":" and 1 <= len(port) <= 5 and set(port) <= set(string.digits) and port[0] != "0"
    return (
        scheme in ("http", "https")
        and bool(separator)
        and has_host
        and (has_port or not colon + port)
        and (not slash or (3 <= len(account) <= 24 and set(account) <= set(_LOWER)))
    )


def _is_folder(segment: str) -> bool:
    return segment not in ("", ".", "..") and not any(
        ord(one) < 0x20 or 0x7F <= ord(one) < 0xA0 or one in "\\\u2028\u2029" or 0xD800 <= ord(one) < 0xE000
        for one in segment
    )


def expected_v1(text: str) -> PayloadToken | None:
    """Parse a v1 token."""
    container, colon, name = text.removeprefix("blob:v1:").partition(":")
    *folders, last = name.split("/")
    is_token = (
        text.startswith("blob:v1:")
        and is_container(container)
        and bool(colon)
        and len(name) <= 1024
        and is_name(last)
        and all(map(_is_folder, folders))
    )
    return PayloadToken(container, name) if is_token else None


def expected_v2(text: str) -> PayloadToken | None:
    """Parse a v2 token."""
    account, _, name = text.removeprefix("blob:v2:").rpartition("/")
    account, _, container = account.rpartition("/")
    is_token = (
        text.startswith("blob:v2:") and len(text) <= 1096 and is_name(name) and is_container(container)
    ) and is_account_url(account)
    return PayloadToken(container, name, account) if is_token else None


def is_bucket(scheme: str, bucket: str) -> bool:
    """Return whether a kind of object store takes `bucket` for one."""
    match scheme:
        case "az":
            return is_container(bucket)
        case "s3" | "gs":
            letters, longest = ({*_LOWER, ".", "-"}, 63) if scheme == "s3" else ({*_LOWER, ".", "-", "_"}, 222)
            return (
                3 <= len(bucket) <= longest
                and set(bucket) <= letters
                and ".." not in bucket
                and bucket[0] in _LOWER
                and bucket[-1] in _LOWER
            )
        case _:
            return False


def is_prefix(prefix: str) -> bool:
    """Return whether `prefix` may stand between a bucket and a name."""
    letters = {*string.ascii_letters, *string.digits, *"_.=-"}
    return len(prefix) <= 240 and all(
        one not in ("", ".", "..") and set(one) <= letters for one in prefix.split("/") if prefix
    )


def expected_object(text: str) -> ObjectToken | None:
    """Parse a token of an object store."""
    scheme, separator, rest = text.removeprefix("object:v1:").partition("://")
    bucket, _, key = rest.partition("/")
    prefix, _, name = key.rpartition("/")
    if not (text.startswith("object:v1:") and separator and is_bucket(scheme, bucket) and is_name(name)):
        return None
    if key.startswith("/") or not is_prefix(prefix):
        return None
    return ObjectToken(Location.of(scheme, bucket, prefix), name)


# ---- inputs ----------------------------------------------------------------------------------------------------------


def any_container(random: Random) -> str:
    return random.choice(("payloads", "durabletask-payloads", any_name(random, _LOWER + "-", 63)))


def any_account_url(random: Random) -> str:
    host = random.choice(("account.blob.core.windows.net", "127.0.0.1", "[::1]", any_name(random, _LOWER + ".-", 63)))
    port = random.choice(("", "", "", ":443", ":10000", f":{random.randrange(100_000)}"))
    path = random.choice(("", "", "/devstoreaccount1", f"/{any_name(random, _LOWER, 24)}"))
    return random.choice(("https://", "https://", "http://")) + host + port + path


def _any_folder(random: Random) -> str:
    if random.random() < 0.5:
        return ""
    return "".join(any_character(random) for _ in range(random.choice((1, 2, 8, 40, 990, 991, 992)))) + "/"


def _make_v1(random: Random) -> str:
    return f"blob:v1:{any_container(random)}:{_any_folder(random)}{digits(random)}"


def _make_v2(random: Random) -> str:
    return f"blob:v2:{any_account_url(random)}/{any_container(random)}/{digits(random)}"


def any_location(random: Random) -> str:
    """Return the URL of a bucket and a prefix."""
    bucket = random.choice(("payloads", any_name(random, _LOWER + ".-_", 63), any_name(random, _LOWER + "-", 222)))
    segments = [any_name(random, string.ascii_letters + "09_.=-", 60) for _ in range(random.choice((0, 0, 1, 2, 4)))]
    prefix = "/".join(segments)
    if random.random() < 0.1:  # about as long as it may be
        prefix = (prefix + "a" * 250)[: random.choice((239, 240, 241))]
    return random.choice(("s3://", "gs://", "az://")) + bucket + (f"/{prefix}" if prefix else "")


def _make_object(random: Random) -> str:
    return f"object:v1:{any_location(random)}/{digits(random)}"


def _or_mutated(random: Random, text: str) -> str:
    return text if random.random() < 0.2 else mutated_text(random, text, _FRAGMENTS)


# ---- properties ------------------------------------------------------------------------------------------------------

_memory: Final = InMemoryPayloadStore()


def _check_blob(text: str) -> None:
    expected = expected_v1(text) or expected_v2(text)
    parsed = PayloadToken.parse(text)
    assert parsed == expected, f"{parsed} for a text that should be {expected}"
    assert _memory.is_known_token(text) == (parsed is not None)
    required = outcome(lambda: PayloadToken.require(text), PayloadTokenError)
    assert required == parsed or parsed is None
    if parsed is not None:
        assert str(parsed) == text
        assert parsed.version == int(text[6])
    # A token is no secret: only a text that is none may be a payload.
    secret = SECRET if parsed is None else text + "\0"
    downloaded = outcome(lambda: _memory.download(text), PayloadTokenError, PayloadNotFoundError, secret=secret)
    assert isinstance(downloaded, PayloadNotFoundError) == (
        parsed is not None and (parsed.account_url, parsed.container) == (None, "durabletask-payloads")
    )


def _check_object(text: str) -> None:
    parsed, expected = ObjectToken.parse(text), expected_object(text)
    assert parsed == expected, f"{parsed} for a text that should be {expected}"
    required = outcome(lambda: ObjectToken.require(text), PayloadTokenError)
    assert required == parsed or parsed is None
    if parsed is not None:
        assert str(parsed) == text
        assert len(text) <= 512
        assert Location.of_url(str(parsed.location)) == parsed.location


_CLAIM: Final = "{} is parsed as the grammar says, or refused with PayloadTokenError; printed as it was; not quoted"

TARGETS: Final = (
    Target("token-v1", _CLAIM.format("blob:v1:"), lambda random: _or_mutated(random, _make_v1(random)), _check_blob),
    Target("token-v2", _CLAIM.format("blob:v2:"), lambda random: _or_mutated(random, _make_v2(random)), _check_blob),
    Target(
        "token-object",
        _CLAIM.format("object:v1:"),
        lambda random: _or_mutated(random, _make_object(random)),
        _check_object,
    ),
)
