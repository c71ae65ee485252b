"""The words that the base model is pre-trained on: names of countries and languages.

They come from the CLDR in the ten languages of the example, so that the model sees the scripts
and spellings that it will be tuned on. Names of months and of days are not among them.
"""

import dataclasses
import random
import re

from babel import Locale
from babel.localedata import LocaleDataDict

from examples.dates.formats import LOCALES

#: The catalogue numbers this many countries, from 00.
CATALOGUE_SIZE = 100
NAME_BYTES_MAX = 24
ABBREVIATION_LETTERS_MIN = 3
ABBREVIATION_LETTERS_MAX = 5

COUNTRY_CODE = re.compile(r"[A-Z]{2}")


@dataclasses.dataclass(frozen=True)
class Lexicon:
    """Words of many languages, and a catalogue that gives some of them a number."""

    words: tuple[str, ...]
    """Names of languages and countries, in all the locales."""
    catalogue: tuple[tuple[str, ...], ...]
    """The names and the abbreviations of each catalogue number, 0 to 99."""


def load_lexicon(seed: int) -> Lexicon:
    """Read the names from Babel's CLDR, and draw the countries of the catalogue by ``seed``."""
    countries = [_texts(Locale.parse(locale).territories) for locale in LOCALES]
    languages = [_texts(Locale.parse(locale).languages) for locale in LOCALES]
    names = {
        code: tuple(sorted({of_locale[code] for of_locale in countries}))
        for code in sorted(countries[0])
        if COUNTRY_CODE.fullmatch(code)
    }
    short = [code for code in names if max(map(_size_bytes, names[code])) <= NAME_BYTES_MAX]
    chosen = random.Random(seed).sample(short, CATALOGUE_SIZE)
    words = {name for group in (*countries, *languages) for name in group.values()}
    return Lexicon(
        words=tuple(sorted(word for word in words if _size_bytes(word) <= NAME_BYTES_MAX)),
        catalogue=_with_abbreviations([names[code] for code in chosen]),
    )


def _texts(names: LocaleDataDict) -> dict[str, str]:
    return {str(code): str(name) for code, name in names.items()}


def _size_bytes(text: str) -> int:
    return len(text.encode())


def _with_abbreviations(entries: list[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Add the short forms of each name that no other entry could claim."""
    claims: dict[str, set[int]] = {}
    for number, names in enumerate(entries):
        for name in names:
            for length in range(ABBREVIATION_LETTERS_MIN, ABBREVIATION_LETTERS_MAX + 1):
                claims.setdefault(name[:length], set()).add(number)
    short_forms: dict[int, set[str]] = {number: set() for number in range(len(entries))}
    for short_form, numbers in claims.items():
        if len(numbers) == 1 and not short_form.endswith(" "):
            short_forms[min(numbers)].add(short_form)
    return tuple((*names, *sorted(short_forms[number] - set(names))) for number, names in enumerate(entries))
