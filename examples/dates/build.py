"""Make the data set: ``python -m examples.dates.build [DIRECTORY]``.

Writes ``train.jsonl``, ``validation.jsonl``, ``test.jsonl`` and ``card.json`` (where they come
from, what was left out and why). The same Babel makes the same bytes.
"""

import hashlib
import json
import pathlib
import sys

import babel
from babel.core import get_cldr_version

from examples.dates.ambiguity import CENTURY_EARLIER, YEARS, Collision, collisions, days_of
from examples.dates.formats import DateFormat, candidate_formats, regional_formats
from examples.dates.split import Example, splits

SEED = 20_230_314


def build(directory: pathlib.Path) -> None:
    """Write the three splits and the card to ``directory``. Takes about 20 s."""
    candidates = list(candidate_formats())
    dates = list(days_of(YEARS))
    found = collisions(candidates, [*days_of(CENTURY_EARLIER), *dates], regional_formats())
    dropped = {candidate: found[candidate] for candidate in candidates if candidate in found}
    kept = [candidate for candidate in candidates if candidate not in dropped]
    files = {
        f"{name}.jsonl": "".join(map(_line, examples)).encode() for name, examples in splits(kept, dates, SEED).items()
    }
    files["card.json"] = _card(kept, dropped, files)
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)


def _line(example: Example) -> str:
    fields = {
        "prompt": example.prompt,
        "completion": example.completion,
        "locale": example.locale,
        "format": example.format,
    }
    return json.dumps(fields, ensure_ascii=False) + "\n"


def _card(kept: list[DateFormat], dropped: dict[DateFormat, Collision], files: dict[str, bytes]) -> bytes:
    card = {
        "source": "Unicode CLDR, by Babel",
        "cldr": get_cldr_version(),
        "babel": babel.__version__,
        "command": "python -m examples.dates.build",
        "seed": SEED,
        "years": [YEARS.start, YEARS.stop - 1],
        "files": {
            name: {
                "examples": content.count(b"\n"),
                "size_bytes": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
            }
            for name, content in files.items()
        },
        "formats": {f"{kind.locale}:{kind.name}": kind.pattern for kind in kept},
        "left_out": {f"{kind.locale}:{kind.name}": _why(collision) for kind, collision in dropped.items()},
    }
    return (json.dumps(card, ensure_ascii=False, indent=2) + "\n").encode()


def _why(collision: Collision) -> str:
    first_locales: dict[str, str] = {}
    for kind, date in collision.readings:
        first_locales.setdefault(date.isoformat(), kind.locale)
    return f"{collision.text} is " + " or ".join(f"{date} ({locale})" for date, locale in first_locales.items())


def main() -> None:
    """Build into the directory named on the command line, else beside this file."""
    here = pathlib.Path(__file__).parent
    build(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here)


if __name__ == "__main__":
    main()
