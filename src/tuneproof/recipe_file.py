"""Recipes as YAML: reading, ``--set``, the resolved copy, and answers to mistakes.

A recipe is read with its line numbers kept, so that a mistake is answered with file, line, key,
value, what was expected and the nearest key that exists.
"""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from tuneproof.errors import RecipeError
from tuneproof.recipe import BENCHMARKS, Recipe

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


def load_recipe(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``a.b=c`` overrides, in order.

    Raises:
        RecipeError: the file is missing or is no YAML mapping; a key is unknown; a value has the
            wrong type or is out of range; two settings contradict each other.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError("no such recipe", place=str(path), remedy=_nearby_recipes(path)) from None
    except IsADirectoryError:
        raise RecipeError("expected a recipe file, not a folder", place=str(path)) from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"not UTF-8 text: {error.reason}", place=str(path)) from None
    return parse_recipe(text, name=str(path), overrides=overrides)


def parse_recipe(text: str, *, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """``load_recipe`` on a text; ``name`` is what errors call it."""
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{name}:{mark.line + 1}" if mark is not None else name
        raise RecipeError(f"not valid YAML: {error.problem}", place=where) from None
    except YAMLError as error:
        raise RecipeError(f"not valid YAML: {error}", place=name) from None
    if not isinstance(tree, CommentedMap):
        raise RecipeError("expected a mapping of sections", place=name, value=type(tree).__name__)
    overridden: set[tuple[str, ...]] = set()
    for override in overrides:
        overridden.add(_apply_override(tree, override))
    try:
        return Recipe.model_validate(_plain(tree))
    except ValidationError as error:
        raise _explain(error, tree, name, overridden) from None


def dump_recipe(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out; ``parse_recipe`` reads it back."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 100
    yaml.representer.add_representer(
        type(None), lambda r, _: r.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    out = io.StringIO()
    yaml.dump(recipe.model_dump(mode="json"), out)
    return out.getvalue()


def _plain(node: object) -> object:
    """Ruamel's round-trip nodes as plain Python values, so that strict types hold."""
    if isinstance(node, Mapping):
        return {str(k): _plain(v) for k, v in node.items()}
    if isinstance(node, list):
        return [_plain(v) for v in node]
    if isinstance(node, bool) or node is None:
        return node
    for kind in (int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node


_SOURCES = ("hub", "path", "sample")


def _apply_override(tree: CommentedMap, override: str) -> tuple[str, ...]:
    """Set one ``a.b=c`` in the tree; the value is read as YAML. Returns the key path."""
    key, equals, text = override.partition("=")
    path = tuple(key.strip().split("."))
    if not equals or not all(path):
        raise RecipeError(
            "expected KEY=VALUE", place="--set", value=override, remedy="e.g. --set train.epochs=1"
        )
    try:
        value = YAML(typ="rt").load(text) if text.strip() else None
    except YAMLError:
        value = text
    node: Any = tree
    for depth, part in enumerate(path[:-1]):
        if isinstance(node, list):
            node = _list_item(node, part, override)
            continue
        if node.get(part) is None:
            node[part] = CommentedMap()
        node = node[part]
        if not isinstance(node, (CommentedMap, list)):
            shown = ".".join(path[: depth + 1])
            raise RecipeError(f"{shown} is a value, not a section", place="--set", value=override)
    if path[:2] == ("data", "source") and path[-1] in _SOURCES and isinstance(node, CommentedMap):
        # A recipe has one source: setting another replaces it instead of contradicting it.
        for other in (*_SOURCES, "revision"):
            node.pop(other, None)
    if isinstance(node, list):
        _list_item(node, path[-1], override)
        node[int(path[-1])] = value
    else:
        node[path[-1]] = value
    return path


def _list_item(node: list[Any], part: str, override: str) -> Any:
    if not part.isdigit() or int(part) >= len(node):
        raise RecipeError(
            f"expected an index below {len(node)}, got {part!r}", place="--set", value=override
        )
    return node[int(part)]


def _explain(
    error: ValidationError, tree: CommentedMap, name: str, overridden: set[tuple[str, ...]]
) -> RecipeError:
    """The first of pydantic's errors as one of ours: file and line, key, value, remedy."""
    first = min(error.errors(include_url=False), key=lambda e: e["type"] != "extra_forbidden")
    path = tuple(str(p) for i, p in enumerate(first["loc"]) if _is_key(p, first["loc"][:i]))
    shown = ".".join(path)
    if first["type"] == "extra_forbidden" and any(o[: len(path)] == path for o in overridden):
        overridden = {path}
    where = _place(tree, path, name, overridden)
    place = f"{where}: {shown}" if shown else where
    if first["type"] == "extra_forbidden":
        known = _known_keys(first["loc"][:-1])
        near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
        remedy = f"Did you mean {'.'.join((*path[:-1], near[0]))}?" if near else ""
        listed = f"Keys here: {', '.join(known)}." if known else ""
        return RecipeError(
            "unknown key", place=place, remedy=" ".join(filter(None, [remedy, listed]))
        )
    if first["type"] == "missing":
        return RecipeError("required, and absent", place=place)
    value = None if first["type"] == "value_error" and not path else first["input"]
    if path and path[-1] in ("api_key_env", "base_url"):
        value = None  # what was pasted there may be a secret
    if isinstance(value, (dict, BaseModel)):
        value = None
    return RecipeError(_expected(first), place=place, value=value)


def _is_key(part: int | str, before: tuple[int | str, ...]) -> bool:
    """Pydantic names union branches in ``loc``; they are no keys of the recipe."""
    if isinstance(part, int):
        return True
    # After a place in a list stands the branch that the item's tag chose: evaluate, 0, mt_bench.
    of_an_item = bool(before) and isinstance(before[-1], int)
    branch = part in ("str", "tuple", "none") or (of_an_item and part in BENCHMARKS)
    return part.replace("_", "").isalnum() and not branch


def _expected(error: ErrorDetails) -> str:
    kind, context = error["type"], error.get("ctx", {})
    words = {
        "int_type": "expected a whole number",
        "int_from_float": "expected a whole number",
        "float_type": "expected a number",
        "string_type": "expected text",
        "bool_type": "expected true or false",
        "tuple_type": "expected a list",
        "model_type": "expected a section (a mapping of keys)",
        "model_attributes_type": "expected a section (a mapping of keys)",
        "finite_number": "expected a finite number",
    }
    if kind in words:
        return words[kind]
    if kind == "literal_error":
        return f"expected {context['expected']}"
    limits = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
    for limit, word in limits.items():
        if limit in context:
            return f"expected a value {word} {context[limit]}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "string_pattern_mismatch":
        if path_ends_in(error, "api_key_env"):
            return "expected the name of an environment variable, not a key"
        return "expected letters, digits, '.', '_' and '-'"
    return error["msg"]


def path_ends_in(error: ErrorDetails, key: str) -> bool:
    """Whether the error is about the key of that name."""
    return key in error["loc"]


def _place(
    tree: CommentedMap, path: tuple[str, ...], name: str, overridden: set[tuple[str, ...]]
) -> str:
    """``file:line`` of the key, of its nearest parent in the file, or ``--set``."""
    if any(path[: len(o)] == o for o in overridden):
        return "--set"
    node: Any = tree
    line: int | None = None
    for part in path:
        key: Any = int(part) if isinstance(node, list) and part.isdigit() else part
        try:
            mark = node.lc.key(key)[0] if isinstance(node, CommentedMap) else node.lc.item(key)[0]
            line, node = mark + 1, node[key]
        except (KeyError, AttributeError, TypeError, IndexError):
            break
    return f"{name}:{line}" if line is not None else name


def _known_keys(place: tuple[int | str, ...]) -> list[str]:
    """The keys of the section at pydantic's ``place``."""
    section: type[BaseModel] | None = Recipe
    for part in place:
        if isinstance(part, int):
            continue
        if part in BENCHMARKS:
            section = BENCHMARKS[part]
            continue
        field = section.model_fields.get(part) if section is not None else None
        section = _section_type(field.annotation) if field is not None else None
    return list(section.model_fields) if section is not None else []


def _section_type(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _section_type(inner)
        if found is not None:
            return found
    return None


def _nearby_recipes(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path("recipes")
    found = sorted(p.name for p in folder.glob("*.yaml")) if folder.is_dir() else []
    near = difflib.get_close_matches(path.name, found, n=1, cutoff=0.4)
    if near:
        return f"Did you mean {folder / near[0]}?"
    return f"Recipes in {folder}: {', '.join(found)}." if found else ""
