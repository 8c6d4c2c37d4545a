"""Tokens and locations of payloads in object stores: parsed, printed and checked.

    object:v1:<scheme>://<bucket>/[<prefix>/]<32 hex>

The scheme is s3, gs or az, where the bucket is a container. The prefix consists of segments of letters, digits and
`_ . = -`, which no client and no service writes in another way. There is no query, no fragment and no percent-encoding.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from durabletask_payloads._errors import PayloadTokenError

if TYPE_CHECKING:
    from typing_extensions import Self

Scheme: TypeAlias = Literal["s3", "gs", "az"]

OBJECT_TOKEN_PREFIX: Final = b"object:v1:"
FORMS: Final = '"s3://<bucket>/<prefix>", "gs://<bucket>/<prefix>" or "az://<container>/<prefix>"'

_PREFIX_TEXT: Final = "object:v1:"
# So that no token is longer than 512 characters: an `Externalizer` counts on that when it makes a message fit. A key
# may have 1,024 in each of the services.
_LONGEST_PREFIX: Final = 240
_BUCKETS: Final[dict[Scheme, str]] = {
    "s3": r"(?![a-z0-9.-]*\.\.)[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
    "gs": r"(?![a-z0-9._-]*\.\.)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]",
    "az": r"(?=[a-z0-9-]{3,63}/)[a-z0-9]+(?:-[a-z0-9]+)*",
}
_LOCATION: Final = "|".join(rf"{scheme}://{bucket}/" for scheme, bucket in _BUCKETS.items())
# A segment is not "." or "..": clients resolve those.
_SEGMENT: Final = r"(?!\.{1,2}/)[A-Za-z0-9_.=-]+/"
_NAME: Final = r"[0-9a-f]{32}"
_PREFIXES: Final = re.compile(rf"(?:{_SEGMENT})*")
_TOKEN: Final = re.compile(rf"object:v1:(?P<location>(?:{_LOCATION})(?:{_SEGMENT})*)(?P<name>{_NAME})")
_LONGEST: Final = len("object:v1:gs://") + 222 + len("/") + _LONGEST_PREFIX + len("/") + 32


class Location(NamedTuple):
    """A bucket, and the prefix of the keys in it, without a slash at either end. `str()` prints it as a URL."""

    scheme: Scheme
    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}" + (f"/{self.prefix}" if self.prefix else "")

    @classmethod
    def of(cls, scheme: str, bucket: str, prefix: str) -> Self:
        """Return the location of those parts.

        Raises:
            ValueError: a part is not as it must be. The text quotes none, since it may hold a secret.
        """
        if scheme not in _BUCKETS:
            raise ValueError(f"it must begin with s3://, gs:// or az://, as in {FORMS}")
        if not re.fullmatch(_BUCKETS[scheme] + "/", f"{bucket}/"):
            raise ValueError(
                f"it has no valid {'container' if scheme == 'az' else 'bucket'} behind {scheme}://, of lower-case "
                f"letters, digits and hyphens: it must be {FORMS}, without credentials"
            )
        prefix = prefix.strip("/")
        if prefix and not _PREFIXES.fullmatch(f"{prefix}/"):
            raise ValueError(
                f"its prefix behind {scheme}://{bucket}/ must be letters, digits and any of _.=- with single slashes "
                "between, without percent-encoding"
            )
        if len(prefix) > _LONGEST_PREFIX:
            raise ValueError(f"its prefix has {len(prefix)} characters: it must have at most {_LONGEST_PREFIX}")
        return cls(scheme, bucket, prefix)

    @classmethod
    def of_url(cls, url: str) -> Self:
        """Return the location that a URL names. Raises ValueError, as `of` does."""
        scheme, separator, rest = url.partition("://")
        if not separator or scheme.lower() not in _BUCKETS:
            raise ValueError(f"it must begin with s3://, gs:// or az://, as in {FORMS}")
        if "@" in rest:
            raise ValueError(
                'it must have no credentials before an "@", which come from the environment or go into config: it must '
                f"be {FORMS}"
            )
        if "?" in rest or "#" in rest:
            raise ValueError(f"it must have no query or fragment, settings go into config: it must be {FORMS}")
        bucket, _, prefix = rest.partition("/")
        return cls.of(scheme.lower(), bucket, prefix)


class ObjectToken(NamedTuple):
    """The location of a payload and its name, 32 hex digits. `str()` prints the token, `parse` reads it."""

    location: Location
    name: str

    @property
    def container(self) -> str:
        return self.location.bucket

    def __str__(self) -> str:
        return f"{_PREFIX_TEXT}{self.location}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Parse `text` as a whole; return None if it is no token. Cheap on long text."""
        if len(text) > _LONGEST or not text.startswith(_PREFIX_TEXT):
            return None
        match = _TOKEN.fullmatch(text)
        if match is None:
            return None
        try:
            return cls(Location.of_url(match["location"]), match["name"])
        except ValueError:  # a prefix that is too long for this bucket
            return None

    @classmethod
    def require(cls, text: str) -> Self:
        """Parse `text`, or raise PayloadTokenError, which does not quote the text: it may be a payload."""
        token = cls.parse(text)
        if token is None:
            raise PayloadTokenError(
                f"a text of {len(text)} characters is no token: object:v1:<scheme>://<bucket>/<key> is one"
            )
        return token
