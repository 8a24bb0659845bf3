"""Mutants of a source text: single small changes that some test should detect."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from types import CodeType
from typing import Any, NamedTuple

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sum": "mean", "mean": "sum", "floor": "ceil"}
UNWRAPPED = {"sorted", "abs", "round", "clamp", "clip", "order_by", "where", "limit", "copy", "nan_to_num", "detach"}
"""Functions and methods whose first argument, or object, may stand in place of the call."""
SYMMETRIC = {"min", "max", "minimum", "maximum", "logaddexp", "corrcoef", "isinstance", "where", "and_", "or_"}
"""Functions whose first two arguments may change places, or cannot."""
KEPT_DECORATORS = {"property", "staticmethod", "classmethod", "setter", "dataclass"}
SKIPPED = (ast.Raise, ast.Assert, ast.Import, ast.ImportFrom, ast.JoinedStr)
"""Statements for people and type checkers: their insides are left alone."""


class Mutant(NamedTuple):
    """A source text with one change."""

    first: int
    last: int
    """The changed statement's lines, or its head's."""
    line: int
    source: str
    """The changed line."""
    change: str
    key: str
    """Names it as long as its line is what it is, wherever that line stands."""
    at_import: bool
    """Whether the change runs when the module is imported."""
    text: str
    code: CodeType
    """Compiled, with the lines of the original."""


def mutants(source: str, name: str) -> list[Mutant]:
    """Every mutant of the text of a file of this name, in the order of its lines."""
    tree, lines = ast.parse(source), source.splitlines()
    found, seen = [], Counter[str]()
    for parent, field, index, node, statement, inside in list(_places(tree)):
        for change, new in _changes(node, parent, field):
            holder = getattr(parent, field)
            if index is None:
                setattr(parent, field, new)
            else:
                holder[index] = new
            ast.fix_missing_locations(tree)
            text, code = ast.unparse(tree), compile(tree, name, "exec")
            if index is None:
                setattr(parent, field, holder)
            else:
                holder[index] = node
            at = getattr(node, "lineno", statement.lineno)
            line = lines[at - 1].strip()
            seen[f"{line} [{change}]"] += 1
            key = f"{line} [{change}] {seen[f'{line} [{change}]']}"
            found.append(Mutant(*_span(statement), at, line, change, key, not inside, text, code))
    return sorted(found, key=lambda mutant: mutant.line)


def _span(statement: ast.stmt) -> tuple[int, int]:
    """A statement's lines; of a compound one, its head's."""
    body = getattr(statement, "body", None)
    end = body[0].lineno - 1 if isinstance(body, list) and body else statement.end_lineno
    return statement.lineno, max(statement.lineno, end or 0)


Place = tuple[ast.AST, str, int | None, ast.AST, ast.stmt, bool]
"""Parent, field, place in the field's list, node, statement, and whether a function's body holds it."""


def _places(node: ast.AST, statement: Any = None, inside: bool = False) -> Iterator[Place]:
    """Every node that may be changed."""
    if isinstance(node, ast.stmt):
        statement = node
    for field, value in ast.iter_fields(node):
        if field in {"annotation", "returns", "type_comment"}:
            continue
        function = isinstance(node, ast.FunctionDef) and field == "body"
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_docstring(child):
                continue
            yield node, field, index, child, child if isinstance(child, ast.stmt) else statement, inside or function
            if not isinstance(child, SKIPPED):
                yield from _places(child, statement, inside or function)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _with(node: Any, **fields: Any) -> Any:
    """A copy of a node with other fields."""
    made = copy.copy(node)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def _without(items: list[Any], place: int) -> list[Any]:
    return items[:place] + items[place + 1 :]


def _changes(node: Any, parent: ast.AST, field: str) -> Iterator[tuple[str, ast.AST]]:
    """What may stand in a node's place: what the change is called, and the new node."""
    yield from _changed_operators(node, field)
    yield from _changed_values(node, parent)
    yield from _changed_calls(node)
    yield from _changed_statements(node, field)
    if field == "test" and isinstance(parent, ast.If | ast.IfExp | ast.While):
        yield "negated", ast.UnaryOp(ast.Not(), node)


def _changed_operators(node: Any, field: str) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Compare():
            for place, operator in enumerate(node.ops):
                for other in COMPARISONS[type(operator)]:
                    operators = [*node.ops[:place], other(), *node.ops[place + 1 :]]
                    yield f"{_name(operator)} -> {other.__name__}", _with(node, ops=operators)
        case ast.BinOp(op=operator) | ast.AugAssign(op=operator) if type(operator) in OPERATORS:
            other = OPERATORS[type(operator)]
            yield f"{_name(operator)} -> {other.__name__}", _with(node, op=other())
        case ast.BoolOp(op=operator):
            other = ast.Or if isinstance(operator, ast.And) else ast.And
            yield f"{_name(operator)} -> {other.__name__}", _with(node, op=other())
        case ast.UnaryOp(op=operator) if field != "test":
            yield f"without {_name(operator)}", node.operand


def _changed_values(node: Any, parent: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Constant(value=bool(value)):
            yield f"{value} -> {not value}", _with(node, value=not value)
        case ast.Constant(value=int(value) | float(value)):
            yield f"{value} -> {value + 1}", _with(node, value=value + 1)
        case ast.Constant(value=str(value)) if value and not isinstance(parent, ast.FormattedValue):
            yield f"{value[:20]!r} -> {value[:20] + 'X'!r}", _with(node, value=value + "X")
        case ast.Subscript(slice=ast.Slice() as cut):
            for end in ("lower", "upper"):
                if getattr(cut, end) is not None:
                    yield f"slice without {end}", _with(node, slice=_with(cut, **{end: None}))
        case ast.comprehension(ifs=[_, *_]):
            yield "comprehension without if", _with(node, ifs=[])


def _changed_calls(node: Any) -> Iterator[tuple[str, ast.AST]]:
    if not isinstance(node, ast.Call) or _name_of(node.func) == "print":
        return
    name = _name_of(node.func)
    if name in NAMES:
        yield f"{name} -> {NAMES[name]}", _with(node, func=_renamed(node.func, NAMES[name]))
    if name in UNWRAPPED:
        within = node.func.value if isinstance(node.func, ast.Attribute) else node.args[0]
        if not (isinstance(within, ast.Name) and within.id in {"np", "torch", "sa"}):
            yield f"without {name}", within
    if len(node.args) > 1 and name not in SYMMETRIC and not any(isinstance(one, ast.Starred) for one in node.args[:2]):
        yield "first two arguments swapped", _with(node, args=[node.args[1], node.args[0], *node.args[2:]])
    if name in {"where", "and_"} and len(node.args) > 1 and not _is_array_s(node.func):
        for place in range(len(node.args)):
            yield f"{name} without argument {place + 1}", _with(node, args=_without(node.args, place))
    for place, keyword in enumerate(node.keywords):
        if keyword.arg is not None:
            yield f"without {keyword.arg}=", _with(node, keywords=_without(node.keywords, place))


def _changed_statements(node: Any, field: str) -> Iterator[tuple[str, ast.AST]]:
    match node:
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield "return None", _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Call() as call) if _name_of(call.func) not in {"print", "__init__"}:
            yield "call removed", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript(), *_]) | ast.AugAssign():
            yield "assignment removed", ast.Pass()
        case ast.Raise() | ast.Continue() | ast.Break():
            yield f"{_name(node).lower()} removed", ast.Pass()
        case ast.With(items=[ast.withitem(optional_vars=None), *_]):
            yield "with removed", ast.If(ast.Constant(True), node.body, [])
        case ast.Name() | ast.Attribute() | ast.Call() if field == "decorator_list":
            pass  # it is the function without it that changes
        case ast.FunctionDef(decorator_list=decorators):
            for place, decorator in enumerate(decorators):
                name = _name_of(decorator.func if isinstance(decorator, ast.Call) else decorator)
                if name not in KEPT_DECORATORS:
                    yield f"without @{name}", _with(node, decorator_list=_without(decorators, place))


def _name(node: ast.AST) -> str:
    return type(node).__name__


def _name_of(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_array_s(function: ast.expr) -> bool:
    """Whether a function is of NumPy or torch, and not a method of a query or an array."""
    return isinstance(function, ast.Attribute) and getattr(function.value, "id", "") in {"np", "torch"}


def _renamed(function: ast.expr, name: str) -> ast.expr:
    renamed: ast.expr = _with(function, **{"attr" if isinstance(function, ast.Attribute) else "id": name})
    return renamed
