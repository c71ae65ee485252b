"""Whether what was written under an older JSON Schema of an event is still understood under a newer one.

It knows the keywords that our types produce, and names any other as a break rather than pass over it.
Types that contain themselves do not occur.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.json_schemas import Schema

_ANNOTATIONS: Final = {"$schema", "$id", "$defs", "title", "description"}
_CHECKED: Final = {
    "$ref", "anyOf", "type", "enum", "default", "pattern", "format",
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "minItems", "maxItems",
    "items", "properties", "required", "additionalProperties",
}  # fmt: skip


def breaks_between(released: Path, current: Path) -> list[str]:
    """Every break between two folders of schemas, as ``file: path: reason``."""
    found = []
    for file in sorted(released.glob("*.json")):
        if not (current / file.name).exists():
            found.append(f"{file.name}: the event is gone")
            continue
        old, new = json.loads(file.read_bytes()), json.loads((current / file.name).read_bytes())
        by_clients = file.stem.endswith("-request") or file.stem == "control"
        found += [f"{file.name}: {reason}" for reason in breaks(old, new, read_by_older=not by_clients)]
    return found


def breaks(old: Schema, new: Schema, *, read_by_older: bool) -> list[str]:
    """Why ``new`` can't replace ``old``, as ``path: reason``; empty where it can.

    ``read_by_older``: what is written under ``new`` also goes to readers that know ``old`` alone, so a
    field of old may neither go missing nor become null. A further enum value or variant is allowed: it
    answers what only a newer client asks for.
    """
    return list(_Comparison(old, new, read_by_older).of("$", old, new))


@dataclass(frozen=True)
class _Comparison:
    old_root: Schema
    new_root: Schema
    read_by_older: bool

    def of(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        """The breaks at this path and below, where ``old`` and ``new`` describe the same value."""
        before, now = _alternatives(old, self.old_root), _alternatives(new, self.new_root)
        for unknown in sorted({*_keywords(old, before), *_keywords(new, now)} - _CHECKED - _ANNOTATIONS):
            yield f"{path}: the keyword `{unknown}` is not known to this check"
        for name, option in before.items():
            match = now.get(name) or (now.get("number") if name == "integer" else None)
            if match is None:
                yield f"{path}: {name} is refused now; a name is not reused for another type"
            else:
                yield from self._same_type(path, option, match)
        if self.read_by_older:
            for name in now.keys() - before.keys():
                if not name.startswith("object "):
                    yield f"{path}: may be {name} now, which older readers refuse"

    def _same_type(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        yield from _bounds(path, old, new)
        yield from _choices(path, old, new)
        if "items" in old and "items" in new:
            yield from self.of(f"{path}[]", old["items"], new["items"])
        yield from self._fields(path, old, new)

    def _fields(self, path: str, old: Schema, new: Schema) -> Iterator[str]:
        before, now = old.get("properties", {}), new.get("properties", {})
        required_before, required_now = set(old.get("required", ())), set(new.get("required", ()))
        for name in before.keys() - now.keys():
            yield f"{path}.{name}: the field is gone"
        for name in required_now - required_before:
            yield f"{path}.{name}: the field is required now"
        if self.read_by_older:
            for name in required_before - required_now:
                yield f"{path}.{name}: the field may be missing now, which older readers refuse"
        for name in before.keys() & now.keys():
            # Writers leave out what equals the default, so another default changes what they said.
            if "default" in before[name] and before[name]["default"] != now[name].get("default"):
                yield f"{path}.{name}: the default was {before[name]['default']!r}"
            yield from self.of(f"{path}.{name}", before[name], now[name])
        yield from self._others(path, old.get("additionalProperties", True), new.get("additionalProperties", True))

    def _others(self, path: str, old: Schema | bool, new: Schema | bool) -> Iterator[str]:
        """The breaks in what fields without a name of their own may be."""
        if isinstance(old, dict) and isinstance(new, dict):
            yield from self.of(f"{path}.*", old, new)
        elif old != new and new is not True:
            yield f"{path}: unknown fields are refused now"


def _alternatives(node: Schema, root: Schema) -> dict[str, Schema]:
    """What a value may be, by type; objects of a union also by the value of their tag."""
    if "$ref" in node:
        return _alternatives(root["$defs"][node["$ref"].rpartition("/")[2]], root)
    if "anyOf" in node:
        options = [_alternatives(option, root) for option in node["anyOf"]]
        return {name: option for found in options for name, option in found.items()}
    return {f"{node.get('type', 'string' if 'enum' in node else 'anything')}{_tag(node)}": node}


def _tag(node: Schema) -> str:
    for field in ("kind", "type"):
        values = node.get("properties", {}).get(field, {}).get("enum", ())
        if len(values) == 1:
            return f" {values[0]}"
    return ""


def _keywords(node: Schema, options: dict[str, Schema]) -> set[str]:
    return node.keys() | {keyword for option in options.values() for keyword in option}


def _bounds(path: str, old: Schema, new: Schema) -> Iterator[str]:
    if _lower(new) > _lower(old):
        yield f"{path}: the lower bound was {_lower(old)[0]} and is {_lower(new)[0]}"
    if _upper(new) < _upper(old):
        yield f"{path}: the upper bound was {_upper(old)[0]} and is {_upper(new)[0]}"
    for name, tighter in (("minLength", 1), ("minItems", 1), ("maxLength", -1), ("maxItems", -1)):
        if name in new and (name not in old or tighter * new[name] > tighter * old[name]):
            yield f"{path}: {name} was {old.get(name, 'open')} and is {new[name]}"


def _lower(node: Schema) -> tuple[float, bool]:
    """The lower bound and whether it is itself left out; the larger, the tighter."""
    inclusive, exclusive = node.get("minimum", float("-inf")), node.get("exclusiveMinimum", float("-inf"))
    return max((inclusive, False), (exclusive, True))


def _upper(node: Schema) -> tuple[float, bool]:
    """The upper bound and whether it is itself part of the range; the smaller, the tighter."""
    inclusive, exclusive = node.get("maximum", float("inf")), node.get("exclusiveMaximum", float("inf"))
    return min((inclusive, True), (exclusive, False))


def _choices(path: str, old: Schema, new: Schema) -> Iterator[str]:
    for name in ("pattern", "format"):
        if name in new and new[name] != old.get(name):
            yield f"{path}: {name} was {old.get(name, 'open')} and is {new[name]}"
    if "enum" in new and "enum" not in old:
        yield f"{path}: only {new['enum']} are accepted now"
    elif "enum" in new:
        for value in old["enum"]:
            if value not in new["enum"]:
                yield f"{path}: {value!r} is refused now"
