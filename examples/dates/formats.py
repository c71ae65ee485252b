"""The date formats of a locale, as the CLDR has them.

The patterns come from Babel's copy of the CLDR; nothing here is written by hand but the list of
languages and of the styles asked for. Which of them end up in the data set is not decided here
but by ``ambiguity.py``, which also asks the languages' other regions.
"""

import dataclasses
import datetime
from collections.abc import Iterator

from babel import Locale, localedata
from babel.dates import DateTimePattern

#: The order is part of the build: examples take their locale in turn.
LOCALES = ("de", "en", "es", "fr", "it", "ja", "nl", "pl", "pt", "ru")

#: Styles and skeletons of UTS #35, part 4. A locale that lacks one, or has the same pattern under
#: an earlier name, goes without it.
STYLES = ("full", "long", "medium", "short")
SKELETONS = ("yMMMEd", "yMMMd", "yMMMMEEEEd", "yMMMMd", "yMEd", "yMd")

#: The CLDR puts narrow and no-break spaces between a number and its unit; nobody types them.
TYPED_SPACES = str.maketrans({"\u00a0": " ", "\u202f": " ", "\u2009": " "})


@dataclasses.dataclass(frozen=True)
class DateFormat:
    """One way to write a date: a CLDR style or skeleton of a locale."""

    locale: str
    name: str
    pattern: str

    def writer(self) -> "DateWriter":
        """Parse the pattern once, to write many dates."""
        return DateWriter(self)


class DateWriter:
    """Writes dates in one format; Babel parses pattern and locale once for all of them."""

    def __init__(self, date_format: DateFormat) -> None:
        self._locale = Locale.parse(date_format.locale)
        self._pattern = parsed_patterns(self._locale)[date_format.name]

    def write(self, date: datetime.date) -> str:
        """Return ``date`` as a person of that locale would type it."""
        return self._pattern.apply(date, self._locale).translate(TYPED_SPACES)


def parsed_patterns(locale: Locale) -> dict[str, DateTimePattern]:
    """Return the locale's patterns by name, those that it has."""
    styles = {name: locale.date_formats[name] for name in STYLES}
    skeletons = {name: locale.datetime_skeletons[name] for name in SKELETONS if name in locale.datetime_skeletons}
    return styles | skeletons


def candidate_formats() -> Iterator[DateFormat]:
    """Yield every format of the ten locales, each pattern once a locale."""
    for identifier in LOCALES:
        seen: set[str] = set()
        for name, parsed in parsed_patterns(Locale.parse(identifier)).items():
            if parsed.pattern not in seen:
                seen.add(parsed.pattern)
                yield DateFormat(identifier, name, parsed.pattern)


def regional_formats() -> Iterator[DateFormat]:
    """Yield what the regions of the ten languages write differently: British, Swiss, Mexican … formats.

    A pattern comes once for each set of names that it is filled with.
    """
    seen: set[tuple[str, str, str]] = set()
    for identifier in sorted(localedata.locale_identifiers()):
        locale = Locale.parse(identifier)
        if locale.language not in LOCALES or locale.script:
            continue
        names = str([list(group["format"]["abbreviated"].items()) for group in (locale.months, locale.days)])
        for name, parsed in parsed_patterns(locale).items():
            key = (locale.language, parsed.pattern, names)
            if key not in seen and identifier not in LOCALES:
                yield DateFormat(identifier, name, parsed.pattern)
            seen.add(key)
