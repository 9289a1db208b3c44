"""Predicates: conditions on the state, written as an expression.

    irq_pending and irq_enabled and in_noirq
    eip == lguest_iret and word[esp] < 0xc0000000
    pending & 1 << 0 and not deliverable

The grammar is that of Python's expressions, cut down to what can be judged without running anything: numbers, names,
`word[...]`, `half[...]`, `byte[...]` (linear memory as the CPU sees it, 0 where unmapped), `phys[...]` (a word of the
Guest's physical memory), arithmetic, comparisons, and, or, not. A name is a register, one of `NAMES`, or a symbol.

An expression that can be true only at certain instructions - `eip == X`, `A <= eip < B` as one of its and-terms - is
looked at only there (`domain`); any other has to be looked at before every step.

Read next: stops.py (Predicate), scan.py.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

from hostvm.cpu_state import CS, DS, ES, FS, GS, SS
from hostvm.interrupts_and_traps import interrupts_on
from hostvm.lguest import Lguest
from hostvm.x86 import GENERAL_REGISTERS, Eflags
from replay.frames import nesting
from replay.look import GuestPhysicalSpace, Look, World
from replay.sparse import sparse
from replay.stops import Predicate

Term: TypeAlias = Callable[[Look], int]
_WORD = 0xFFFFFFFF
_LONGEST = 2000
_IF = int(Eflags.IF)
_SEGMENTS = {"es": ES, "cs": CS, "ss": SS, "ds": DS, "fs": FS, "gs": GS}


class BadPredicate(ValueError):
    """An expression that means nothing; the text says where and why."""


def _register(index: int) -> Term:
    return lambda look: int(look.machine.cpu.env.regs[index]) & _WORD


def _segment(index: int) -> Term:
    return lambda look: int(look.machine.cpu.env.segs[index].selector)


def _control(index: int) -> Term:
    return lambda look: int(look.machine.cpu.env.cr[index]) & _WORD


def _lguest(look: Look) -> Lguest:
    return look.guest.lguest


def _shared(field: str) -> Term:
    """A word of the page shared with the Guest; 0 before there is one."""

    def get(look: Look) -> int:
        data = _lguest(look).data
        offset = getattr(data.layout, field)
        return 0 if offset is None else data.get(offset) or 0

    return get


def _in_world(*worlds: World) -> Term:
    return lambda look: look.world in worlds


def _in_noirq(look: Look) -> int:
    guest = _lguest(look)
    return guest.noirq_start <= look.machine.cpu.eip < guest.noirq_end


def _must_wait(look: Look) -> bool:
    return bool(_in_noirq(look)) and not _lguest(look).abi.iret_is_redone


NAMES: Mapping[str, Term] = {
    **{name: _register(index) for index, name in enumerate(GENERAL_REGISTERS)},
    **{name: _segment(index) for name, index in _SEGMENTS.items()},
    **{f"cr{index}": _control(index) for index in (0, 2, 3, 4)},
    "eip": lambda look: look.machine.cpu.eip,
    "eflags": lambda look: look.machine.cpu.eflags(),
    "real_if": lambda look: bool(look.machine.cpu.eflags() & _IF),
    "cpl": lambda look: look.machine.cpu.cpl,
    "tick": lambda look: look.tick,
    "guest": lambda look: look.guest.number,
    "directory": lambda look: look.directory,
    "in_host": _in_world(World.HOST),
    "in_switcher": _in_world(World.SWITCHER),
    "in_kernel": _in_world(World.KERNEL),
    "in_user": _in_world(World.USER),
    "in_guest": _in_world(World.KERNEL, World.USER),
    "in_noirq": _in_noirq,
    "noirq_start": lambda look: _lguest(look).noirq_start,
    "noirq_end": lambda look: _lguest(look).noirq_end,
    "irq_enabled": _shared("irq_enabled"),
    "irq_pending": _shared("irq_pending"),
    "blocked": _shared("blocked_interrupts"),
    "pending": lambda look: _lguest(look).irqs_pending,
    "deliverable": lambda look: (
        _lguest(look).irqs_pending & ~NAMES["blocked"](look) & _WORD
        if interrupts_on(_lguest(look)) and not _must_wait(look)
        else 0
    ),
    "halted": lambda look: _lguest(look).halted,
    "ts": lambda look: _lguest(look).ts,
    "nesting": nesting,
}
_SIZES = {"byte": 1, "half": 2, "word": 4}
_BINARY: Mapping[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: lambda a, b: a << b if 0 <= b < 64 else 0,
    ast.RShift: lambda a, b: a >> b if b >= 0 else 0,
    ast.FloorDiv: lambda a, b: a // b if b else 0,
    ast.Mod: lambda a, b: a % b if b else 0,
}
_COMPARE: Mapping[type[ast.cmpop], Callable[[int, int], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_UNARY: Mapping[type[ast.unaryop], Callable[[int], int]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: lambda value: ~value & _WORD,
}

Resolve: TypeAlias = Callable[[str], int | None]


class _Compiler:
    def __init__(self, text: str, resolve: Resolve, noirq: tuple[int, int]) -> None:
        self._text = text
        self._resolve = resolve
        self._noirq = noirq

    def bad(self, node: ast.AST, why: str) -> BadPredicate:
        column = getattr(node, "col_offset", 0)
        return BadPredicate(f"{why} at column {column + 1} of {self._text!r}")

    def term(self, node: ast.expr) -> Term:
        match node:
            case ast.Constant(value=bool() | int() as value):
                return lambda _: int(value)
            case ast.Name(id=name):
                return self._name(node, name)
            case ast.Subscript(value=ast.Name(id=name), slice=index):
                return self._memory(node, name, self.term(index))
            case ast.BoolOp(op=op, values=values):
                return _all_or_any(isinstance(op, ast.And), [self.term(v) for v in values])
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _unary(_UNARY[type(op)], self.term(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _binary(_BINARY[type(op)], self.term(left), self.term(right))
            case ast.Compare():
                return self._comparison(node)
            case _:
                raise self.bad(node, "this is not part of a predicate")

    def _name(self, node: ast.AST, name: str) -> Term:
        if name in NAMES:
            return NAMES[name]
        address = self._resolve(name)
        if address is None:
            raise self.bad(node, f"no register, state or symbol is called {name}")
        return lambda _: address

    def _memory(self, node: ast.AST, name: str, index: Term) -> Term:
        if name == "phys":
            return lambda look: (
                look.word(index(look) & _WORD, GuestPhysicalSpace(look.guest.number)) or 0
            )
        size = _SIZES.get(name)
        if size is None:
            raise self.bad(node, f"there is no {name}[...], only byte, half, word and phys")
        return lambda look: int.from_bytes(look.read(index(look) & _WORD, size), "little")

    def _comparison(self, node: ast.Compare) -> Term:
        tests: list[Term] = []
        left = self.term(node.left)
        for op, right in zip(node.ops, map(self.term, node.comparators), strict=True):
            if type(op) not in _COMPARE:
                raise self.bad(node, "this comparison is not part of a predicate")
            tests.append(_binary(_COMPARE[type(op)], left, right))
            left = right
        return _all_or_any(True, tests)

    # ---- where it can be true -------------------------------------------------------------------

    def domain(self, node: ast.expr) -> tuple[int, int] | None:
        """Linear addresses outside which the expression is false for certain."""
        terms = (
            node.values if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And) else [node]
        )
        found = [self._bounds(term) for term in terms if isinstance(term, ast.Compare)]
        spans = [span for span in found if span is not None]
        window = any(isinstance(term, ast.Name) and term.id == "in_noirq" for term in terms)
        if window and self._noirq[1]:
            spans.append((self._noirq[0], self._noirq[1] - 1))
        if not spans:
            return None
        return max(low for low, _ in spans), min(high for _, high in spans)

    def _bounds(self, node: ast.Compare) -> tuple[int, int] | None:
        low, high = 0, _WORD
        known = False
        values = [node.left, *node.comparators]
        for left, op, right in zip(values, node.ops, values[1:], strict=False):
            for name, other, kind in (
                (left, right, type(op)),
                (right, left, _MIRROR.get(type(op))),
            ):
                value = self._fixed(other)
                if not (isinstance(name, ast.Name) and name.id == "eip" and value is not None):
                    continue
                first, last = _range(kind, value)
                low, high, known = max(low, first), min(high, last), True
        return (low, high) if known else None

    def _fixed(self, node: ast.expr) -> int | None:
        match node:
            case ast.Constant(value=int() as value):
                return value
            case ast.Name(id=name) if name not in NAMES:
                return self._resolve(name)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                sides = self._fixed(left), self._fixed(right)
                if sides[0] is not None and sides[1] is not None:
                    return _BINARY[type(op)](sides[0], sides[1])
        return None


_MIRROR: Mapping[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.Gt,
    ast.LtE: ast.GtE,
    ast.Gt: ast.Lt,
    ast.GtE: ast.LtE,
    ast.Eq: ast.Eq,
}


def _range(kind: type[ast.cmpop] | None, value: int) -> tuple[int, int]:
    """Values of x for which `x kind value`."""
    if kind is ast.Eq:
        return value, value
    if kind is ast.Lt:
        return 0, value - 1
    if kind is ast.LtE:
        return 0, value
    if kind is ast.Gt:
        return value + 1, _WORD
    return (value, _WORD) if kind is ast.GtE else (0, _WORD)


def _binary(op: Callable[[int, int], int], left: Term, right: Term) -> Term:
    return lambda look: op(left(look), right(look))


def _unary(op: Callable[[int], int], operand: Term) -> Term:
    return lambda look: op(operand(look))


def _all_or_any(every: bool, terms: list[Term]) -> Term:
    if every:
        return lambda look: all(term(look) for term in terms)
    return lambda look: any(term(look) for term in terms)


def parse(
    text: str, resolve: Resolve = lambda _: None, noirq: tuple[int, int] = (0, 0)
) -> Predicate:
    """The predicate that `text` says; `resolve` knows symbols, `noirq` is the window if it is known.

    Raises BadPredicate.
    """
    if len(text) > _LONGEST:
        raise BadPredicate(f"a predicate of more than {_LONGEST} characters")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadPredicate(f"not an expression: {text!r}") from error
    compiler = _Compiler(text.strip(), resolve, noirq)
    holds = compiler.term(tree)
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    reads_memory = any(isinstance(node, ast.Subscript) for node in ast.walk(tree))
    depends = sparse(names & NAMES.keys(), reads_memory=reads_memory)
    domain = None if depends is not None else compiler.domain(tree)
    return Predicate(text.strip(), lambda look: bool(holds(look)), domain, depends)


def evaluate(text: str, look: Look, resolve: Resolve = lambda _: None) -> int:
    """The value of an expression here. Raises BadPredicate."""
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise BadPredicate(f"not an expression: {text!r}") from error
    return int(_Compiler(text.strip(), resolve, (0, 0)).term(tree)(look))


__all__ = ["NAMES", "BadPredicate", "evaluate", "parse"]
