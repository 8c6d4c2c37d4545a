"""Changes texts and bytes at random: valid inputs become such as nobody thinks of."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, AnyStr, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from random import Random

HEX: Final = "0123456789abcdef"
# Characters that some parser takes for another, drops, or cannot print: controls, line ends, digits and letters whose
# lower case or normal form is ASCII, a surrogate, the highest character.
_STRANGE: Final = (
    "\0\t\n\v\f\r\x1b\x1c\x1f\x7f\x80\x85\xa0\xad\u0130\u017f\u0661\u200b\u2028\u2029\u212a\u3002"
    "\ud800\udfff\ufeff\uff0f\uff1a\uff10\uffff\U0001f600\U0010ffff"
)
_MARKS: Final = string.punctuation + " "


def mutated(random: Random, text: AnyStr, fragments: Sequence[AnyStr], character: Callable[[Random], AnyStr]) -> AnyStr:
    """Return `text` after some changes, in which parts of it, `fragments` and single characters take part."""
    for _ in range(random.choice((1, 1, 1, 2, 2, 3, 5))):
        begin = random.randint(0, len(text))
        end = min(len(text), begin + random.choice((0, 1, 1, 2, 4, 16, len(text))))
        part = text[begin:end]
        match random.randrange(7):
            case 0:
                new = text[:0]
            case 1:
                new = character(random)
            case 2:
                new = random.choice(fragments)
            case 3:
                new = part + random.choice(fragments)
            case 4:
                new = part + character(random)
            case 5:
                new = part * random.choice((2, 2, 3, 8, 200) if len(part) < 100 else (2,))
            case _:
                new = part.swapcase()
        text = text[:begin] + new + text[end:]
    return text


def mutated_text(random: Random, text: str, fragments: Sequence[str]) -> str:
    return mutated(random, text, fragments, any_character)


def mutated_bytes(random: Random, data: bytes, fragments: Sequence[bytes]) -> bytes:
    return mutated(random, data, fragments, _any_byte)


def any_character(random: Random) -> str:
    """Return a character: most often one that means something to a parser."""
    match random.randrange(4):
        case 0:
            return random.choice(_STRANGE)
        case 1:
            return random.choice(_MARKS)
        case 2:
            return random.choice(string.ascii_letters + string.digits)
        case _:
            return chr(random.randrange(0x110000))


def any_name(random: Random, letters: str, longest: int) -> str:
    """Return 1 to `longest` of `letters`: most often few, sometimes one too many."""
    size = random.choice((1, 3, 3, 5, 8, 12, longest, longest + 1))
    return "".join(random.choices(letters, k=size))


def digits(random: Random, count: int = 32) -> str:
    """Return so many hex digits."""
    return "".join(random.choices(HEX, k=count))


def _any_byte(random: Random) -> bytes:
    return bytes([random.randrange(256)])
