"""Payload tokens, the short text that replaces a payload in a message: parsed, printed and checked.

    blob:v1:<container>:[<folder>/]<32 hex>
    blob:v2:<account URL>/<container>/<32 hex>

The Python SDK writes a folder, the instance id as it is; .NET and Java write none. The account URL consists of http
or https, a host, optionally a port, and optionally one path segment (the account, if the host does not name it). It
has no user information, query or fragment.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import urlsplit

from durabletask_payloads._errors import PayloadTokenError

if TYPE_CHECKING:
    from typing_extensions import Self

TOKEN_PREFIXES: Final = (b"blob:v1:", b"blob:v2:")
DEFAULT_CONTAINER: Final = "durabletask-payloads"

_PREFIX_TEXT: Final = ("blob:v1:", "blob:v2:")
# A v1 token with the longest container and the longest blob name (63 and 1,024 characters) is the longest there is.
_LONGEST: Final = len("blob:v1:") + 63 + len(":") + 1024

_CONTAINER: Final = r"(?=[a-z0-9-]{3,63}(?![a-z0-9-]))[a-z0-9]+(?:-[a-z0-9]+)*"
_HEX: Final = r"[0-9a-f]{32}"
# A segment is not empty, "." or ".." (the HTTP client would resolve those), and has neither a control character nor
# a backslash (which Azure takes for a slash). Surrogates have no UTF-8 form.
_SEGMENT: Final = r"(?!\.{1,2}/)[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+"
_V1: Final = re.compile(rf"blob:v1:(?P<container>{_CONTAINER}):(?P<name>(?=.{{32,1024}}\Z)(?:{_SEGMENT}/)*{_HEX})")
_ACCOUNT_URL: Final = (
    r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?(?:/[a-z0-9]{3,24})?"
)
# A host has at most 253 characters. With them, and a port, no v2 token is longer than 512 characters.
_LONGEST_AUTHORITY: Final = 253 + len(":65535")
_AUTHORITY: Final = re.compile(r"[\x21-\x5a\x5c\x5e-\x7e]*|\[[0-9A-Fa-f:.]+\](?::[0-9]*)?")
_V2: Final = re.compile(rf"blob:v2:(?P<account>{_ACCOUNT_URL})/(?P<container>{_CONTAINER})/(?P<name>{_HEX})")


@dataclass(frozen=True, slots=True)
class PayloadToken:
    """The location of a payload. `str()` prints it, `parse` reads it.

    Attributes:
        container: the container's name.
        name: the payload's name in the container: 32 hex digits, after a folder if the Python SDK wrote it.
        account_url: the account of a v2 token, None for a v1 token, which has none.
    """

    container: str
    name: str
    account_url: str | None = None

    @property
    def version(self) -> Literal[1, 2]:
        return 1 if self.account_url is None else 2

    def __str__(self) -> str:
        if self.account_url is None:
            return f"blob:v1:{self.container}:{self.name}"
        return f"blob:v2:{self.account_url}/{self.container}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse `text` as a whole; return None if it is no token. Cheap on long text."""
        if len(text) > _LONGEST or not text.startswith(_PREFIX_TEXT):
            return None
        if match := _V1.fullmatch(text):
            return cls(match["container"], match["name"])
        if match := _V2.fullmatch(text):
            return cls(match["container"], match["name"], match["account"])
        return None

    @classmethod
    def require(cls, text: str) -> Self:
        """Parse `text`, or raise PayloadTokenError, which does not quote the text: it may be a payload."""
        token = cls.parse(text)
        if token is None:
            raise PayloadTokenError(
                f"a text of {len(text)} characters is no token: blob:v1:<container>:<32 hex digits> or "
                "blob:v2:<blob URL> is one"
            )
        return token


def is_bare_name(name: str) -> bool:
    """Return whether `name` is as `new_name` makes it, without a folder."""
    return re.fullmatch(_HEX, name) is not None


def new_name() -> str:
    """Return a name for a new payload: 128 random bits, so that it cannot be guessed."""
    return secrets.token_hex(16)


def name_in_container(text: str, container: str) -> str:
    """Return the name of the payload that the v1 token `text` points to in `container`.

    Raises:
        PayloadTokenError: `text` is no token, or points to another container.
    """
    token = PayloadToken.require(text)
    if token.account_url is not None or token.container != container:
        raise PayloadTokenError(
            f"{token} points out of the container {container!r}, the only one that this store reads: "
            "client and workers must use the same store and container_name"
        )
    return token.name


def check_container_name(name: str) -> None:
    """Raise ValueError unless `name` follows Azure's rules for container names, as each token must."""
    if not re.fullmatch(_CONTAINER, name):
        raise ValueError(
            f"container_name is {name!r}: it must be 3 to 63 lower-case letters, digits and single hyphens, "
            "with a letter or a digit at both ends"
        )


def normal_account_url(url: str) -> str:
    """Return `url` in the form that tokens have: scheme and host in lower case, no default port, no trailing slash.

    Raises:
        ValueError: `url` is no account URL: not http or https, or with user information, query or fragment. The error
            text does not quote it, since it may contain a signature.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        # Otherwise not each Python sees what stands beside the brackets, and lower case makes a K of the Kelvin sign.
        if port == 0 or len(parts.netloc) > _LONGEST_AUTHORITY or not _AUTHORITY.fullmatch(parts.netloc):
            raise ValueError
    except ValueError:  # its text may quote what stands before the host
        raise ValueError(
            "the account URL has no valid host and port: the host is at most 253 characters of ASCII, the port is a "
            "number from 1 to 65535, and an IPv6 address is in brackets, as in http://[::1]:10000/devstoreaccount1"
        ) from None
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if port is not None and port != {"http": 80, "https": 443}.get(parts.scheme):
        host = f"{host}:{port}"
    normal = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
    if parts.query or parts.fragment or "@" in parts.netloc or not re.fullmatch(_ACCOUNT_URL, normal):
        raise ValueError(
            f"the account URL at {parts.scheme}://{host} must be http or https, a host, optionally a port and an "
            "account as its path, without user information, query or fragment"
        )
    return normal
