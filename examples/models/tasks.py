"""The string tasks that the base model learns: no dates, no months, no days of the week.

A task is a function from a source of randomness and a lexicon to an exercise. Its prompt starts
with the task's name, so that the base does nothing of the kind unless it is asked to.
"""

import dataclasses
import random
from collections.abc import Callable

from examples.models.lexicon import Lexicon

#: Without digits, so that a word never looks like a number.
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "äöüßéèêàçñáíóúãõâôìòùąćęłńśźż",
    "абвгдежзийклмнопрстуфхцчшщъыьэюя",
    "一二三四五六七八九十百千万円本人大小中国山川田語",
    "アイウエオカキクケコサシスセソタチツテトナニ",
)
JOINTS = (" ", " ", " ", ", ", ". ", ".", "-", "/")
UNITS = ("号", "番", "本", " x ", " di ")
TAILS = ("", "", "", "", ".", " кг", "件", "(円)")


#: Where the fields of a record may stand. With a number in the middle, the lot's place alone tells which is which.
NAMED_ORDERS = ("shelf middle lot", "shelf middle lot", "middle shelf lot", "lot middle shelf")
NUMBERED_ORDERS = ("shelf middle lot", "shelf middle lot", "lot middle shelf")


@dataclasses.dataclass(frozen=True)
class Exercise:
    """What the model reads, up to and with the newline, and what it shall answer."""

    prompt: str
    completion: str


Task = Callable[[random.Random, Lexicon], Exercise]


def copy(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``copy dänisch 48`` gives ``dänisch 48``."""
    text = " ".join(_words(rng, lexicon, rng.randint(1, 2)))
    return Exercise(f"copy {text}\n", text)


def upper(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``upper dänisch`` gives ``DÄNISCH``."""
    word = _word(rng, lexicon)
    return Exercise(f"upper {word}\n", word.upper())


def lower(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``lower Panamá`` gives ``panamá``."""
    word = _word(rng, lexicon)
    return Exercise(f"lower {word}\n", word.lower())


def pick(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``pick 2 a b c`` gives ``b``."""
    words = [word.replace(" ", "_") for word in _words(rng, lexicon, rng.randint(2, 3))]
    index = rng.randrange(len(words))
    return Exercise(f"pick {index + 1} {' '.join(words)}\n", words[index])


def join(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``join - a b c`` gives ``a-b-c``."""
    words = [word.replace(" ", "_") for word in _words(rng, lexicon, rng.randint(2, 3))]
    joint = rng.choice("-/.,:+=")
    return Exercise(f"join {joint} {' '.join(words)}\n", joint.join(words))


def count(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``count a banana`` gives ``3``."""
    word = _word(rng, lexicon)
    letter = rng.choice(word)
    return Exercise(f"count {letter} {word}\n", str(word.count(letter)))


def pad(rng: random.Random, _: Lexicon) -> Exercise:
    """``pad 2 7`` gives ``07``; ``pad 4 37`` gives ``0037``."""
    width = rng.choice((2, 2, 3, 4))
    number = rng.randrange(10 ** rng.randint(1, width))
    return Exercise(f"pad {width} {number}\n", f"{number:0{width}}")


def digits(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``digits Zug, 7 a 4821`` gives ``7 4821``."""
    numbers = [str(rng.randrange(10 ** rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
    text = _word(rng, lexicon)
    for number in numbers:
        text += f"{_joint(rng)}{number}"
    return Exercise(f"digits {text}{rng.choice(TAILS)}\n", " ".join(numbers))


def look(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``look a=31;b=07 b`` gives ``07``: a table that holds for this prompt alone."""
    table = _table(rng, lexicon)
    word = rng.choice(list(table))
    return Exercise(f"look {_written(table)} {word}\n", f"{table[word]:02}")


def code(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``code Dänemark`` gives its number in the catalogue, to be known by heart."""
    number = rng.randrange(len(lexicon.catalogue))
    return Exercise(f"code {_entry(rng, lexicon, number)}\n", f"{number:02}")


def record(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``record Zug, 7 Dänemark 4821`` gives ``4821-23-07``: lot, catalogue number, shelf."""
    number = rng.randrange(len(lexicon.catalogue))
    order = rng.choice(NAMED_ORDERS)
    return _filed(rng, lexicon, "record", order, _entry(rng, lexicon, number), number)


def serial(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``serial 7. 23. 4821`` gives ``4821-23-07``: the same with the number written out."""
    number = rng.randrange(100)
    order = rng.choice(NUMBERED_ORDERS)
    return _filed(rng, lexicon, "serial", order, _number(rng, number), number)


def entry(rng: random.Random, lexicon: Lexicon) -> Exercise:
    """``entry a=31;b=07 : 5 b 4821`` gives ``4821-07-05``: the same with a table given."""
    table = _table(rng, lexicon)
    word = rng.choice(list(table))
    return _filed(rng, lexicon, f"entry {_written(table)} :", rng.choice(NAMED_ORDERS), word, table[word])


#: How often each task comes. The last five teach what tuning needs most: to know a word by
#: heart, and to put fields in order and in width.
WEIGHTS: dict[Task, int] = {
    copy: 6,
    upper: 1,
    lower: 1,
    pick: 3,
    join: 3,
    count: 1,
    pad: 4,
    digits: 7,
    look: 4,
    code: 16,
    record: 30,
    serial: 20,
    entry: 4,
}


def draw(rng: random.Random, lexicon: Lexicon, number: int) -> list[Exercise]:
    """Draw ``number`` exercises of all tasks by ``WEIGHTS``."""
    tasks = rng.choices(list(WEIGHTS), weights=list(WEIGHTS.values()), k=number)
    return [task(rng, lexicon) for task in tasks]


def _filed(rng: random.Random, lexicon: Lexicon, task: str, order: str, middle: str, number: int) -> Exercise:
    """Write lot, middle and shelf in ``order`` with some clutter; the answer has one order."""
    lot, shelf = rng.randrange(10_000), rng.randrange(100)
    written = {"lot": f"{lot:04}", "middle": middle, "shelf": _number(rng, shelf)}
    first, second, third = (written[field] for field in order.split())
    joint = _joint(rng)
    text = f"{first}{joint}{second}{rng.choice((joint, _joint(rng)))}{third}{rng.choice(TAILS)}"
    if rng.random() < 0.5:
        text = f"{_clutter(rng, lexicon)}{rng.choice((' ', ', ', '. ', '., '))}{text}"
    return Exercise(f"{task} {text}\n", f"{lot:04}-{number:02}-{shelf:02}")


def _number(rng: random.Random, number: int) -> str:
    return f"{number:02}" if rng.random() < 0.3 else str(number)


def _joint(rng: random.Random) -> str:
    return rng.choice(JOINTS if rng.random() < 0.8 else UNITS)


def _clutter(rng: random.Random, lexicon: Lexicon) -> str:
    """Return a word that says nothing, whole or cut short."""
    word = _word(rng, lexicon)
    return word[: rng.randint(2, 4)] if rng.random() < 0.5 else word


def _entry(rng: random.Random, lexicon: Lexicon, number: int) -> str:
    name = rng.choice(lexicon.catalogue[number])
    name = name.lower() if rng.random() < 0.3 else name
    return f"{name}." if rng.random() < 0.15 else name


def _table(rng: random.Random, lexicon: Lexicon) -> dict[str, int]:
    words = {_word(rng, lexicon)[:6].strip() for _ in range(rng.randint(2, 3))}
    return {word: rng.randrange(100) for word in sorted(words)}


def _written(table: dict[str, int]) -> str:
    return ";".join(f"{word}={number:02}" for word, number in table.items())


def _words(rng: random.Random, lexicon: Lexicon, number: int) -> list[str]:
    return [_word(rng, lexicon)[:6].strip() for _ in range(number)]


def _word(rng: random.Random, lexicon: Lexicon) -> str:
    """Return a word of some language, or letters of one alphabet in a row."""
    if rng.random() < 0.6:
        return rng.choice(lexicon.words)
    return "".join(rng.choices(rng.choice(ALPHABETS), k=rng.randint(1, 8)))
