"""Columns with their types: rows of Python's values as Postgres reads them, written column by column.

The forms are those of https://www.postgresql.org/docs/15/datatype.html. A value that has none in its column's type is
refused here, by name, before anything is sent.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import msgspec

from schemas.errors import HeadraceError, shown

Row = Sequence[Any]
#: One column of some rows, each value as text; None is null.
Texts = list[str | None]

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
#: A list in them would be a list of lists.
_NO_LISTS: Final = ("json[]", "jsonb[]")


class UnfitValue(HeadraceError):
    """A value is not of its column's type."""

    code = "unfit_value"

    def __init__(self, column: str, type_name: str, value: object, why: str) -> None:
        super().__init__(f"Column {column!r} is {type_name} and can't take {shown(value)}: {why}. Correct this row.")


class _Form(NamedTuple):
    """What a type takes: ``exact`` is the class of nearly all of its values."""

    exact: type
    others: tuple[type, ...]
    write: Callable[[Any], str]
    #: The same for values of just that class, in C.
    write_exact: Callable[[Any], str]
    #: Whether the text may hold what an array literal or COPY reads as more than itself.
    quoted: bool = False


def _float(value: float) -> str:
    return float.__repr__(float(value))


def _aware(value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError("it has no time zone")
    return value.isoformat()


def _naive(value: datetime) -> str:
    if value.tzinfo is not None:
        raise ValueError("it has a time zone")
    return value.isoformat()


def _day(value: date) -> str:
    if isinstance(value, datetime):
        raise TypeError("it has a time too")
    return value.isoformat()


def _whole(value: int) -> str:
    if isinstance(value, bool):
        raise TypeError("it is a bool")
    return int.__repr__(value)


def _interval(value: timedelta) -> str:
    return f"{value.days} days {value.seconds}.{value.microseconds:06d} seconds"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _bytes(value: bytes | bytearray | memoryview) -> str:
    return rf"\x{value.hex()}"


_WHOLE: Final = _Form(int, (), _whole, int.__repr__)
_DOUBLE: Final = _Form(float, (int,), _float, float.__repr__)
_JSON: Final = _Form(dict, (object,), _json, _json, quoted=True)
_TRUTH: Final = {False: "f", True: "t"}.__getitem__
_FORMS: Final[Mapping[str, _Form]] = {
    # Not str(): that of an enumeration may be its name.
    "text": _Form(str, (), str.__str__, str.__str__, quoted=True),
    "smallint": _WHOLE,
    "integer": _WHOLE,
    "bigint": _WHOLE,
    "real": _DOUBLE,
    "double precision": _DOUBLE,
    "numeric": _Form(Decimal, (int,), str, str),
    "boolean": _Form(bool, (), _TRUTH, _TRUTH),
    "timestamptz": _Form(datetime, (), _aware, _aware),
    "timestamp": _Form(datetime, (), _naive, _naive),
    "date": _Form(date, (), _day, date.isoformat),
    "interval": _Form(timedelta, (), _interval, _interval),
    "uuid": _Form(UUID, (), str, str),
    "json": _JSON,
    "jsonb": _JSON,
    "bytea": _Form(bytes, (bytearray, memoryview), _bytes, _bytes, quoted=True),
}


class Column(NamedTuple):
    """A column's name, and its type as Postgres spells it: of those above, or a list of such (``text[]``)."""

    name: str
    type_name: str

    @property
    def is_list(self) -> bool:
        """Whether its values are arrays themselves."""
        return self.type_name.endswith("[]")

    @property
    def is_quoted(self) -> bool:
        """Whether its texts may hold backslashes, quotes, commas and the like."""
        return self.is_list or self._form.quoted

    @property
    def _form(self) -> _Form:
        return _FORMS[self.type_name.removesuffix("[]")]

    def texts(self, values: Sequence[object]) -> Texts:
        """The values as text.

        Raises:
            UnfitValue: one is not of this type (final).
        """
        form = self._form
        # Nearly always all values are of one class, and go through a loop of C's.
        if set(map(type, values)) == {form.exact} and not self.is_list:
            try:
                return self._checked(list(map(form.write_exact, values)))
            except (TypeError, ValueError, OverflowError):
                pass
        return self._checked([None if value is None else self._text(value) for value in values])

    def _text(self, value: object) -> str:
        form = self._form
        try:
            if self.is_list:
                return _array(value, self._element)
            return self._element(value)
        except (TypeError, ValueError, OverflowError) as error:
            fits = isinstance(value, (form.exact, *form.others)) or self.is_list
            why = str(error) if fits else f"it is a {type(value).__name__}"
            raise UnfitValue(self.name, self.type_name, value, why) from None

    def _element(self, value: object) -> str:
        form = self._form
        if not isinstance(value, (form.exact, *form.others)):
            raise TypeError(f"it holds a {type(value).__name__}")
        return form.write(value)

    def _checked(self, texts: Texts) -> Texts:
        """The texts, of which each is one for Postgres: UTF-8, without the character 0."""
        if self.is_quoted:
            together = "".join([text for text in texts if text is not None])
            if "\0" in together or not _is_unicode(together):
                wrong = next(text for text in texts if text is not None and ("\0" in text or not _is_unicode(text)))
                why = "Postgres keeps no character 0 in a text" if "\0" in wrong else "half a surrogate pair is no text"
                raise UnfitValue(self.name, self.type_name, wrong, why)
        return texts


class Columns:
    """Some columns of a table; ``Columns(id="text", cost="bigint")``.

    Raises:
        ValueError: a name or a type is not one that this can write (a bug).
    """

    def __init__(self, **types: str) -> None:
        for name, type_name in types.items():
            if not _NAME.fullmatch(name) or type_name.removesuffix("[]") not in _FORMS or type_name in _NO_LISTS:
                raise ValueError(f"{name} {type_name}: a name is in small letters, a type one of {', '.join(_FORMS)}")
        self.columns: Final = tuple(Column(name, type_name) for name, type_name in types.items())
        self.names: Final = tuple(types)

    def listed(self) -> str:
        """The names, for a list in SQL."""
        return ", ".join(f'"{name}"' for name in self.names)

    def texts(self, rows: Sequence[Row]) -> list[Texts]:
        """The rows' values as text, column by column.

        Raises:
            UnfitValue: a value is not of its column's type, or a row has more or fewer values (final).
        """
        if set(map(len, rows)) - {len(self.columns)}:
            wrong = next(row for row in rows if len(row) != len(self.columns))
            raise UnfitValue(self.listed(), "a row", wrong, f"it has {len(wrong)} values for {len(self.columns)}")
        if not rows:
            return [[] for _ in self.columns]
        return [column.texts(values) for column, values in zip(self.columns, zip(*rows, strict=True), strict=False)]


def _is_unicode(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _array(values: object, write: Callable[[Any], str]) -> str:
    """An array literal; each element is quoted: https://www.postgresql.org/docs/15/arrays.html#ARRAYS-IO."""
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"it is a {type(values).__name__}")
    return f"{{{','.join(_array_element(value, write) for value in values)}}}"


def _array_element(value: object, write: Callable[[Any], str]) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, (list, tuple)):
        return _array(value, write)
    escaped = write(value).replace("\\", r"\\").replace('"', r"\"")
    return f'"{escaped}"'
