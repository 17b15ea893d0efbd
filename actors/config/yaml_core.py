"""YAML read by the core schema of YAML 1.2: `off`, `no` and dates are words, `1e-5` is a number, no key stands twice.

PyYAML follows YAML 1.1, in which `prefix_cache: off` is False and `learning_rate: 1e-5` is text. Source of the rules:
YAML 1.2.2, section 10.3.2 (tag resolution of the core schema); digits may be grouped as in Python, `20_000`.
"""

import re
from collections.abc import Iterator
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
# In this order: what looks like an integer also looks like a float.
_PLAIN = {
    "null": r"(?:~|null|Null|NULL|)$",
    "bool": r"(?:true|True|TRUE|false|False|FALSE)$",
    "int": r"(?:[-+]?[0-9]+(?:_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+)$",
    "float": r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
    "merge": r"<<$",
}
# What escapes can write and no path, file or message can hold: NUL, and surrogates on their own.
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """Knows the core schema's types and no others."""


class _Dumper(yaml.SafeDumper):
    """Quotes whatever either version of YAML would take for something else than text."""


def _null(loader: _Loader, node: yaml.ScalarNode) -> None:
    loader.construct_scalar(node)


def _truth(loader: _Loader, node: yaml.ScalarNode) -> bool:
    return str(loader.construct_scalar(node)).lower() == "true"


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node))
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _number(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(re.sub(r"\.(inf|nan)$", r"\1", str(loader.construct_scalar(node)).lower()))


def _text(loader: _Loader, node: yaml.ScalarNode) -> str:
    text = str(loader.construct_scalar(node))
    if _NO_TEXT.search(text):
        raise ValueError(f"line {node.start_mark.line + 1}: a text holds \\0 or half of a character; take it out")
    return text


_Loader.yaml_implicit_resolvers = {}
for _name, _pattern in _PLAIN.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(_pattern), None)
_Loader.yaml_constructors = {
    _TAG + "null": _null,
    _TAG + "bool": _truth,
    _TAG + "int": _integer,
    _TAG + "float": _number,
    _TAG + "str": _text,
    _TAG + "seq": yaml.SafeLoader.construct_yaml_seq,
    _TAG + "map": yaml.SafeLoader.construct_yaml_map,
    None: yaml.SafeLoader.construct_undefined,
}


def read(text: str) -> Any:
    """The one document in `text`; None where there is none.

    Raises:
        ValueError: it is not YAML, or a mapping has a key twice; the message is one line that says where.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        for key, first, second in _twice(root, "", set()):
            where = f"in lines {first} and {second}" if first != second else f"in line {first}"
            raise ValueError(f"{key} stands twice, {where}; remove one")
        return None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.context == "expected a single document in the stream" and mark:
            raise ValueError(f"a recipe is one document; found a second at line {mark.line + 1}") from error
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"not YAML: {place}{' '.join(str(error.problem or error.context).split())}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError("not YAML that can be read: it is nested too deeply") from error


def write(value: Any) -> str:
    """`value` as YAML, keys in their order; `read` gives it back, and so does a reader of YAML 1.1."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _twice(node: yaml.Node | None, path: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """(dotted key, first line, second line) of every key that stands twice in one mapping."""
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _twice(child, f"{path}{index}.", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines and isinstance(key, yaml.ScalarNode):
                yield path + name, lines[name], line
            lines[name] = line
            yield from _twice(value, f"{path}{name}.", seen)
