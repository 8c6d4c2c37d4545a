"""Targets: account URLs and connection strings of Azure, and the URLs of `store_from_url`."""

from __future__ import annotations

import ipaddress
import os
import re
import string
import sys
from typing import TYPE_CHECKING, Final, TypeAlias
from unittest.mock import patch
from urllib.parse import quote

from tests.fuzz.engine import SECRET, Target, outcome
from tests.fuzz.mutator import any_character, any_name, mutated_text
from tests.fuzz.tokens import any_account_url, any_container, any_location, is_account_url, is_container

from durabletask_payloads import LargePayloadStorageOptions, PayloadStore, store_from_url
from durabletask_payloads.stores._azure_options import checked_account_url
from durabletask_payloads.stores._from_url import StoreOptions
from durabletask_payloads.stores._tokens import PayloadToken
from durabletask_payloads.stores.azure_blob import BlobPayloadStore, BlobPayloadStoreOptions

if TYPE_CHECKING:
    from random import Random

_ConnectionCase: TypeAlias = tuple[str, bool]
_UrlCase: TypeAlias = tuple[str, tuple[tuple[str, str], ...], bool]

_LOWER: Final = string.ascii_lowercase + string.digits
_HEX: Final = "0123456789abcdef" * 2
_URL_FRAGMENTS: Final = [
    *("https://", "http://", "HTTP://", "ftp://", "//", "://", ":", ":443", ":0", ":080", ":65536", "[::1]", "[", "]"),
    *(f"{SECRET}@", f"user:{SECRET}@", f"?sig={SECRET}", f"#{SECRET}", f"/{SECRET}", f":{SECRET}", "@", "?", "#", "/"),
    *(".blob.core.windows.net", ".dfs.core.windows.net", ".queue.storage.azure.net", "AccountKey=", "%2F", "\u212a"),
    *("'", '"', "xn--", "..", "-", " ", "\n", "[fe80::1%25eth0]", "1.2.3.4", "\u3002"),
]


# ---- account URLs ----------------------------------------------------------------------------------------------------


def _make_account_url(random: Random) -> str:
    url = any_account_url(random) + random.choice(("", "", "/", "//"))
    if random.random() < 0.2:
        url = url.swapcase()
    return url if random.random() < 0.2 else mutated_text(random, url, _URL_FRAGMENTS)


def _normal(url: str) -> str | None:
    """Return an account URL in the form of tokens, or None if it is none: of what may be written differently, too."""
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    host, colon, port = authority.rpartition(":")
    if not colon or authority.endswith("]"):
        host, port = authority, ""
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        return None
    default = {"http": 80, "https": 443}.get(scheme.lower())
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        return None
    authority = host.lower() + (f":{int(port)}" if port and int(port) != default else "")
    normal = f"{scheme.lower()}://{authority}" + f"{slash}{path}".rstrip("/")
    if len(host) > 253 or not url.isascii() or re.search(r"\s", url) or not is_account_url(normal):
        return None
    services, domains = ("dfs", "file", "queue", "table"), ("core", "storage.azure")
    if any(f".{service}.{domain}." in authority for service in services for domain in domains):
        return None
    is_blob_host = any(f".blob.{domain}." in f".{authority}" for domain in domains)
    return None if is_blob_host and path.strip("/") else normal


def _is_address(url: str) -> bool:
    """Return whether what is in brackets is an IPv6 address: not each Python looks."""
    found = re.search(r"\[(.*)\]", url)
    try:
        return found is None or bool(ipaddress.IPv6Address(found[1]))
    except ValueError:
        return False


def _hidden(url: str) -> str:
    """Return the marker if it is where a secret may be: before an "@", or behind a "?" or a "#"."""
    public = re.split("[?#]", url, maxsplit=1)[0].rpartition("@")[2]
    return "\0" if SECRET in public.lower() else SECRET


def _check_account_url(url: str) -> None:
    found = outcome(lambda: checked_account_url(url, "account_url"), ValueError, secret=_hidden(url))
    expected = _normal(url)
    if isinstance(found, Exception):
        assert expected is None or not _is_address(url), f"refused: {found}"
        return
    assert found == expected, f"is {found}, should be {expected}"
    assert found == checked_account_url(found, "account_url")
    text = f"blob:v2:{found}/payloads/{_HEX}"
    assert PayloadToken.parse(text) == PayloadToken("payloads", _HEX, found)
    named = {"account_name": "account", "account_key": SECRET}
    store = BlobPayloadStore(BlobPayloadStoreOptions(account_url=url, credential=named))
    assert repr(store).startswith(f"BlobPayloadStore({found}/durabletask-payloads,")
    _check_shows_nothing(store, _hidden(url))
    # Of a key alone the account is read off the URL, where that has it.
    options = outcome(
        lambda: BlobPayloadStoreOptions(account_url=url, credential=SECRET), ValueError, secret=_hidden(url)
    )
    if isinstance(options, BlobPayloadStoreOptions):
        _check_shows_nothing(BlobPayloadStore(options), _hidden(url))


def _check_shows_nothing(store: PayloadStore, secret: str = SECRET) -> None:
    text = f"{store!r}{store.options!r}"
    assert secret not in text, f"the secret is shown: {text}"


# ---- connection strings ----------------------------------------------------------------------------------------------


def _make_connection_string(random: Random) -> _ConnectionCase:
    parts = [f"AccountName={any_name(random, _LOWER, 24)}", f"AccountKey={SECRET}"]
    match random.randrange(6):
        case 0:
            parts.append("EndpointSuffix=core.windows.net")
        case 1:
            parts.append(f"BlobEndpoint={any_account_url(random)}")
        case 2:
            parts = [f"BlobEndpoint={any_account_url(random)}", f"SharedAccessSignature=sv=2024-11-04&sig={SECRET}"]
        case 3:
            parts.append("DefaultEndpointsProtocol=http")
        case 4:
            parts = ["UseDevelopmentStorage=true"]
        case _:
            pass
    random.shuffle(parts)
    text = ";".join(parts) + random.choice(("", ";"))
    if random.random() < 0.2:
        return text, _is_plain(parts)
    fragments = [*_URL_FRAGMENTS, *parts, ";", "=", ";;", "==", "accountname=", "ENDPOINTSUFFIX=", "BlobEndpoint="]
    fragments += ["BlobSecondaryEndpoint=", "DefaultEndpointsProtocol=", "SharedAccessSignature=", "AccountKey="]
    return mutated_text(random, text, fragments), False


def _is_plain(parts: list[str]) -> bool:
    """Return whether parts as they are made can be nothing but right."""
    endpoints = [part.partition("=")[2] for part in parts if part.startswith("BlobEndpoint=")]
    names = [part.partition("=")[2] for part in parts if part.startswith("AccountName=")]
    return all(len(name) <= 24 for name in names) and all(
        _normal(url) is not None and _is_address(url) for url in endpoints
    )


def _check_connection_string(case: _ConnectionCase) -> None:
    text, is_valid = case
    # A name or a host with the marker in it is shown, and is no secret.
    public = re.sub(r"(?i)(?:^|;)\s*(?:AccountKey|SharedAccessSignature)\s*=[^;]*", "", text)
    secret = "\0" if SECRET in public.lower() else SECRET
    options = outcome(lambda: BlobPayloadStoreOptions(connection_string=text), ValueError, secret=secret)
    if isinstance(options, Exception):
        assert not is_valid, f"refused: {options}"
        return
    # What the options accept, the store and Azure's client accept.
    store = BlobPayloadStore(options)
    _check_shows_nothing(store, secret)
    location = repr(store).removeprefix("BlobPayloadStore(").partition("/durabletask-payloads")[0]
    assert _normal(location) == location, f"{location} is no account URL"


# ---- URLs of stores --------------------------------------------------------------------------------------------------

_VALUES: Final = ("0", "1", "2", "4096", "1048577", "99999999999999999999", "true", "false", "1.5", "", "x", "-1")
_ENVIRONMENT: Final = (
    *("AZURE_STORAGE_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT"),
    "DURABLETASK_PAYLOADS_STORE",
)
_KNOWN: Final = sorted(StoreOptions.__annotations__)
_OPTIONS: Final = (*_KNOWN, "credential", "access_key_id", "sas_token")
_SHOWN: Final = frozenset(_KNOWN) - {"trusted_locations", "endpoint", "base_url"}
_KEY: Final = ("AZURE_STORAGE_KEY", SECRET)


def _make_url(random: Random) -> _UrlCase:
    account, container = any_name(random, _LOWER, 24), any_container(random)
    match random.randrange(7):
        case 0:
            url = f"azure://{account}/{container}"
        case 1:
            url = f"azure://{account}.blob.core.windows.net/{container}"
        case 2:
            url = f"azurite://{random.choice(('', '127.0.0.1', 'localhost:10000', '[::1]:1'))}/{container}"
        case 3:
            path = "".join(any_character(random) for _ in range(random.randrange(12))).replace("\0", "")
            url = f"file:///tmp/{quote(path, errors='surrogatepass', safe='/')}"
        case 4:
            url = random.choice(("memory:", "memory://"))
        case _:
            url = any_location(random)
    if random.random() < 0.2:
        is_valid = not url.startswith(("azur", "s3:", "gs:", "az:")) or (
            is_container(container) and url.startswith("azur") and len(account) in range(3, 25)
        )
        return url, (_KEY,), is_valid
    options = [f"{random.choice(_OPTIONS)}={random.choice(_VALUES)}" for _ in range(random.choice((0, 1, 1, 2, 4)))]
    url += "?" * bool(options) + "&".join(options)
    fragments = [
        *_URL_FRAGMENTS,
        *options,
        *(f"{name}=" for name in _OPTIONS),
        "&",
        "=",
        "file:///",
        "memory:",
        "az://",
    ]
    # A variable that is empty is as one that is not set. A credential is always there, or the cloud is asked for one.
    environment: list[tuple[str, str]] = [_KEY]
    if random.random() < 0.3:
        value = mutated_text(random, f"AccountName={account};AccountKey={SECRET}", fragments).replace("\0", "")
        environment.append((random.choice(_ENVIRONMENT), value.encode("utf-8", "replace").decode()))
    return mutated_text(random, url, fragments), tuple(environment), False


def _check_url(case: _UrlCase) -> None:
    url, environment, is_valid = case
    # The place of a payload is shown, and so are most options: they are no secrets.
    place, _, query = url.partition("?")
    values = [pair for pair in query.split("&") if pair.partition("=")[0] in _SHOWN]
    public = "&".join([place.partition("#")[0].rpartition("@")[2], *values])
    secret = "\0" if SECRET in public.lower() else SECRET
    documented = (ValueError, ImportError) if sys.version_info < (3, 11) else (ValueError,)
    with patch.dict(os.environ, dict(environment)):
        store = outcome(lambda: store_from_url(url), *documented, secret=secret)
    if isinstance(store, Exception):
        assert not is_valid or isinstance(store, ImportError), f"refused: {store}"
        return
    _check_shows_nothing(store, secret)
    assert isinstance(store.options, LargePayloadStorageOptions)
    assert "#" not in url, "a fragment is dropped"
    for pair in url.partition("?")[2].split("&"):
        name, _, value = pair.partition("=")
        if value.isascii() and value.isdigit():
            assert getattr(store.options, name, value) in (value, int(value), float(value)), f"{name} is dropped"


TARGETS: Final = (
    Target(
        "account-url",
        "accepted as documented, in one form, or ValueError; v2 tokens and Azure's client agree; no secret is shown",
        _make_account_url,
        _check_account_url,
    ),
    Target(
        "connection-string",
        "ValueError, or Azure's client takes it for an account URL; no key or signature is shown",
        _make_connection_string,
        _check_connection_string,
    ),
    Target(
        "store-url",
        "ValueError, or a store with the options of the URL; nothing of credentials is shown",
        _make_url,
        _check_url,
    ),
)
