"""Job ids that sort by the time of submission and tell it: ``generate-01kb2…``."""

import re
import secrets
import time
from datetime import UTC, datetime
from typing import Final

from schemas.topics import Kind

#: Crockford's base 32 in lower case: no letter is mistaken for a digit, and the order is ASCII's.
ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
#: The layout of a ULID: 48 bits of milliseconds since 1970, then 80 random bits, in 26 digits.
DIGITS: Final = 26
RANDOM_BITS: Final = 80
_ID: Final = re.compile(rf"(?:{'|'.join(Kind)})-([0-7][{ALPHABET}]{{{DIGITS - 1}}})")


def new_job_id(kind: Kind) -> str:
    """An id that no other job has, with the kind in front for whoever reads it."""
    number = (time.time_ns() // 1_000_000) << RANDOM_BITS | secrets.randbits(RANDOM_BITS)
    digits = (ALPHABET[number >> 5 * place & 31] for place in reversed(range(DIGITS)))
    return f"{kind}-{''.join(digits)}"


def time_of(job_id: str) -> datetime | None:
    """When the id was made; None for an id that ``new_job_id`` did not make."""
    found = _ID.fullmatch(job_id)
    if not found:
        return None
    number = 0
    for digit in found[1]:
        number = number << 5 | ALPHABET.index(digit)
    try:
        return datetime.fromtimestamp((number >> RANDOM_BITS) / 1_000, UTC)
    except (OverflowError, ValueError):
        # Beyond the year 9999: somebody's own id that only looks like ours.
        return None
