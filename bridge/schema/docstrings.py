"""What stands below a field in its class: msgspec keeps the docstrings of classes alone."""

import ast
import inspect
import textwrap
from functools import lru_cache
from itertools import pairwise


def field_docstrings(kind: type) -> dict[str, str]:
    """The text below each field of a class, those of its bases included.

    Empty, where the source is not to be had.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if each.__module__ not in {"builtins", "msgspec"}:
            found |= _in_source(each)
    return found


@lru_cache(maxsize=1024)
def _in_source(kind: type) -> dict[str, str]:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except (OSError, TypeError, SyntaxError):
        return {}
    body = tree.body[0].body if tree.body and isinstance(tree.body[0], ast.ClassDef) else []
    found = {}
    for field, text in pairwise(body):
        match field, text:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(said))),
            ):
                found[name] = inspect.cleandoc(said)
    return found
