"""A store by a URL: one way to name any of them, for applications, settings and command lines."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypedDict
from urllib.parse import parse_qsl

from durabletask_payloads._options import LargePayloadStorageOptions

from ._directory import DirectoryPayloadStore
from ._memory import InMemoryPayloadStore

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from ._azure_options import Credential
    from ._base import PayloadStore

# Not by urlsplit, whose errors quote what is in brackets.
_ENDPOINT: Final = re.compile(r"(?i:https?)://(?:[A-Za-z0-9._-]+|\[[0-9a-fA-F:.]+\])(?::[0-9]{1,5})?(?:/[^@?#\s]*)?")

VARIABLE: Final = "DURABLETASK_PAYLOADS_STORE"


class StoreOptions(TypedDict, total=False):
    """Options of `store_from_url`, by keyword. Which of them a store has depends on its kind."""

    threshold_bytes: int
    max_stored_payload_bytes: int
    enable_compression: bool
    container_name: str
    create_container: bool
    connect_timeout: float
    read_timeout: float
    total_timeout: float
    retries: int
    engine: Literal["auto", "obstore", "azure-storage-blob"]
    token_version: Literal[1, 2]
    layout: Literal["standard", "python-sdk"]
    api_version: str
    trusted_locations: tuple[str, ...]
    region: str
    endpoint: str
    virtual_hosted_style_request: bool
    server_side_encryption: str
    sse_kms_key_id: str
    request_payer: bool
    skip_signature: bool
    base_url: str
    account_name: str
    use_azure_cli: bool


# Its values have the types of StoreOptions, which the names of a dict do not keep.
_Options = dict[str, Any]

_LIMITS: Final = frozenset({"threshold_bytes", "max_stored_payload_bytes", "enable_compression"})
_TIMES: Final = frozenset({"connect_timeout", "read_timeout", "total_timeout", "retries"})
_BLOBS: Final = (
    _LIMITS | _TIMES | {"create_container", "engine", "token_version", "layout", "api_version", "trusted_locations"}
)
# Settings of obstore that are no secrets: those may be part of a URL, and all others come from the environment.
_S3: Final = frozenset(
    {
        "region",
        "endpoint",
        "virtual_hosted_style_request",
        "server_side_encryption",
        "sse_kms_key_id",
        "request_payer",
        "skip_signature",
    }
)
_GCS: Final = frozenset({"base_url", "skip_signature"})
_AZURE: Final = frozenset({"account_name", "endpoint", "use_azure_cli", "skip_signature"})


def _memory(url: str, options: _Options) -> PayloadStore:
    if url.partition(":")[2] not in ("", "//"):
        raise ValueError("nothing goes behind the colon")
    limits, rest = _split(options, _LIMITS)
    return InMemoryPayloadStore(LargePayloadStorageOptions(**limits), **rest)


def _file(url: str, options: _Options) -> PayloadStore:
    path = url.partition(":")[2]
    if not path.startswith("///"):
        raise ValueError("a path is absolute, behind three slashes")
    from urllib.request import url2pathname  # it imports much, for http

    folder = url2pathname(path[2:])
    if "\0" in folder:
        raise ValueError("a path has no zero bytes")
    limits, rest = _split(options, _LIMITS)
    return DirectoryPayloadStore(folder, LargePayloadStorageOptions(**limits), **rest)


def _azure(url: str, options: _Options) -> PayloadStore:
    from ._azure_url import azure_store  # needs [azure]

    return azure_store(url, options.pop("credential", None), options)


def _azurite(url: str, options: _Options) -> PayloadStore:
    from ._azure_url import azurite_store  # needs [azure]

    return azurite_store(url, options)


def _objects(url: str, options: _Options) -> PayloadStore:
    from .object_store import ObjectStorePayloadStore, ObjectStorePayloadStoreOptions  # needs [object-store]

    rest, config = _split(options, _LIMITS | _TIMES)
    for name in config.keys() & {"endpoint", "base_url"}:
        _check_endpoint(name, config[name])
    return ObjectStorePayloadStore(ObjectStorePayloadStoreOptions(url=url, config=config, **rest))


class _Kind(NamedTuple):
    form: str
    options: frozenset[str]
    make: Callable[[str, _Options], PayloadStore]


_CONTAINER: Final = frozenset({"container_name"})
_KINDS: Final[Mapping[str, _Kind]] = {
    "azure": _Kind("azure://<account>/<container>", _BLOBS, _azure),
    "azurite": _Kind("azurite://<host>:<port>/<container>", _BLOBS, _azurite),
    "file": _Kind("file:///<path>", _LIMITS | _CONTAINER | {"create_container"}, _file),
    "s3": _Kind("s3://<bucket>/<prefix>", _LIMITS | _TIMES | _S3, _objects),
    "gs": _Kind("gs://<bucket>/<prefix>", _LIMITS | _TIMES | _GCS, _objects),
    "az": _Kind("az://<container>/<prefix>", _LIMITS | _TIMES | _AZURE, _objects),
    "memory": _Kind("memory:", _LIMITS | _CONTAINER, _memory),
}
_FORMS: Final = ", ".join(kind.form for kind in _KINDS.values())


def store_from_url(
    url: str | None = None, *, credential: Credential | None = None, **options: Unpack[StoreOptions]
) -> PayloadStore:
    """Return the store that a URL names. Makes no request.

    | URL | store |
    |---|---|
    | `azure://<account>/<container>` | `BlobPayloadStore`, extra `[azure]`; the account is its name or its host |
    | `azurite://<host>:<port>/<container>` | `BlobPayloadStore` in the emulator, at 127.0.0.1:10000 by default |
    | `file:///<path>` | `DirectoryPayloadStore` |
    | `s3://<bucket>/<prefix>`, `gs://<bucket>/<prefix>` | `ObjectStorePayloadStore`, extra `[object-store]` |
    | `az://<container>/<prefix>` | `ObjectStorePayloadStore` in Azure: no other SDK reads its tokens |
    | `memory:` | `InMemoryPayloadStore` |

    Options are those of the store, as query parameters (`file:///var/payloads?threshold_bytes=65536`), or as keywords,
    which win. Object stores take settings of obstore too: `region`, `endpoint` and others that are no secrets.

    Credentials are never part of a URL. For `azure:` it is `credential`, or what the environment has for the account:
    AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING (the first two only if
    AZURE_STORAGE_ACCOUNT is not another one), or else the `DefaultAzureCredential` of azure-identity. Object stores
    take theirs as obstore does: AWS_ACCESS_KEY_ID, GOOGLE_APPLICATION_CREDENTIALS, the role of the machine.

    Args:
        url: of the store; the variable DURABLETASK_PAYLOADS_STORE by default.
        credential: for `azure:`, as in `BlobPayloadStoreOptions`.
        options: of the store, as keywords.

    Raises:
        ValueError: no store is named, or the URL or an option cannot be right. The text names the right form, and
            shows no value of what may be a secret.
        ImportError: an extra is missing; the text has the command for pip.
    """
    where = "url"
    if url is None:
        url, where = os.environ.get(VARIABLE), VARIABLE
        if not url:
            raise ValueError(f"no store is named: pass a URL, or set {VARIABLE}, to one of {_FORMS}")
    scheme, colon, _ = url.partition(":")
    scheme = scheme.lower()
    kind = _KINDS.get(scheme)
    if kind is None or not colon:
        raise ValueError(f"{where} names no kind of store: it must be one of {_FORMS}")
    base, _, query = url.partition("?")
    if "#" in url:
        raise ValueError(f"{where} must have no fragment: it must be {kind.form}, and options behind a ?")
    if "@" in base and kind.make is not _file:
        raise ValueError(
            f'{where} must have no credentials before an "@": it must be {kind.form}, and they come from the '
            "environment"
        )
    given: _Options = {**_of_query(query, where, scheme, kind), **options}
    _check_names(given, "option", scheme, kind)
    if credential is not None:
        if kind.make is not _azure:
            raise ValueError(f"credential goes with {_KINDS['azure'].form}: {scheme}: has its own way")
        given["credential"] = credential
    try:
        return kind.make(f"{scheme}:{base.partition(':')[2]}", given)
    except ValueError as error:
        raise ValueError(f"{error}; the form of {where} is {kind.form}?<option>=<value>") from None


def _of_query(query: str, where: str, scheme: str, kind: _Kind) -> _Options:
    """Return the options of a query, by their names."""
    if not query:
        return {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True)
    except ValueError:  # its text shows the query
        raise ValueError(f"{where} must have options as <name>=<value> behind its ?, with & between") from None
    texts = dict(pairs)
    if len(texts) < len(pairs):
        raise ValueError(f"{where} has an option twice")
    _check_names(texts, f"parameter of {where}", scheme, kind)
    return {name: _value(name, text, where) for name, text in texts.items()}


def _check_names(options: Mapping[str, object], what: str, scheme: str, kind: _Kind) -> None:
    for name in sorted(options.keys() - kind.options):
        shown = f" {name!r}" if re.fullmatch(r"[a-z_]{1,30}", name) else ""
        raise ValueError(
            f"the {what}{shown} is none of {kind.form}: {scheme}: takes {', '.join(sorted(kind.options))}; credentials "
            "come from the environment"
        )


def _value(name: str, text: str, where: str) -> object:
    """Return the value of an option from its text in a query."""
    wanted = _WANTED.get(name, "text")
    match wanted:
        case "a whole number" if re.fullmatch(r"[0-9]{1,15}", text):
            return int(text)
        case "a number of seconds" if re.fullmatch(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", text):
            return float(text)
        case "true or false" if text in ("true", "false"):
            return text == "true"
        case "URLs with commas between":
            return tuple(text.split(","))
        case "text":
            return text
        case _:
            raise ValueError(f"{name} in {where} must be {wanted}")


_WANTED: Final[Mapping[str, str]] = {
    **dict.fromkeys(("threshold_bytes", "max_stored_payload_bytes", "retries", "token_version"), "a whole number"),
    **dict.fromkeys(("connect_timeout", "read_timeout", "total_timeout"), "a number of seconds"),
    **dict.fromkeys(
        (
            "enable_compression",
            "create_container",
            "virtual_hosted_style_request",
            "request_payer",
            "skip_signature",
            "use_azure_cli",
        ),
        "true or false",
    ),
    "trusted_locations": "URLs with commas between",
}


def _split(options: _Options, names: frozenset[str]) -> tuple[_Options, _Options]:
    """Return the options with those names, and the rest."""
    inside = {name: value for name, value in options.items() if name in names}
    return inside, {name: value for name, value in options.items() if name not in names}


def _check_endpoint(name: str, url: str) -> None:
    if not _ENDPOINT.fullmatch(url):
        raise ValueError(
            f"{name} must be https://<host> or http://<host>:<port>, without credentials, query or fragment"
        )
