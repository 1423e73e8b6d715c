"""Reads pickles without being able to run anything.

A pickle is a program for a small stack machine, and Python's own reader will import any module and call any function
that it names. This module is another reader for the same byte code, made for weights alone:

* it does not use the ``pickle`` module. There is no import and no call of anything the file chooses: a global is
  looked up by its exact ``(module, name)`` in a table of our own stand-ins, anything else ends the reading
  (`UnsafeCheckpoint`);
* a stand-in says what may be done with it (see `stand_ins`);
* a class that is not in the table may be named where ``foreign`` allows it, never one of Python's own modules or of the
  libraries we know; an object of it holds what the file says and does nothing;
* strings of bytes are views into the file, and every length is compared with what is left of the file before anything
  is allocated. So memory stays in proportion to the file;
* steps, nesting, string lengths and time are limited (`Budget`);
* dictionary keys are text or whole numbers: hashing nested tuples can take exponential time.

Nested pickles, which PyTorch makes of every storage, are read by the same machine with a smaller table.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from typing import Any

from draggan.checkpoints.pickle.budget import Budget, damaged, refuse
from draggan.checkpoints.pickle.stand_ins import (
    AllowedClass,
    AllowedFunction,
    AllowList,
    EasyDict,
    ForeignClass,
    ForeignObject,
    InertObject,
    OrderedDict,
    StandIn,
)
from draggan.errors import CheckpointError

__all__ = ["PickleMachine", "checked_key"]

MAX_MARKS = 500
_NOTHING: AllowList = {}
# Where functions live that do harm. What is needed of these is in the table; the rest is refused when it is named.
_NEVER_FOREIGN = {name.lower() for name in sys.stdlib_module_names} | {
    *("__builtin__", "__builtins__", "copy_reg", "commands", "cpickle", "popen2", "urllib2", "userdict"),
    *("numpy", "torch", "torch_utils", "dnnlib", "draggan", "joblib", "cloudpickle", "dill"),
}
_LAYERS_OF_TORCH = "torch.nn.modules."


class PickleMachine:
    """Executes one pickle after another from a buffer, with nothing but the opcodes that data needs.

    Args:
        data: the bytes; everything read stays a view into them.
        allowed: the globals that may be named.
        persistent: turns a persistent id into a value; None refuses them.
        foreign: whether objects of unknown classes are read past.
        budget: limits, shared with nested pickles.
        position: where the first pickle begins.
    """

    def __init__(
        self,
        data: memoryview,
        *,
        allowed: AllowList = _NOTHING,
        persistent: Callable[[Any], Any] | None = None,
        foreign: bool = False,
        budget: Budget,
        position: int = 0,
    ) -> None:
        self.data = data
        self.position = position
        self.allowed = allowed
        self.persistent = persistent
        self.foreign = foreign
        self.budget = budget
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self) -> Any:
        """The value of the next pickle; `position` is then behind it.

        Raises:
            UnsafeCheckpoint: it asks for something that data does not need.
            CheckpointError: it is no pickle, or cut off.
        """
        self.stack, self.marks, self.memo = [], [], {}
        budget, data = self.budget, self.data
        while True:
            # Budget.step and byte, written out: this is the one loop that counts.
            budget.steps -= 1
            if budget.steps < 0 or not budget.steps & 4095:
                budget.step(0)
            if self.position >= len(data):
                raise damaged("it ends too early")
            code = data[self.position]
            self.position += 1
            if code == 0x2E:  # STOP
                value = self.pop()
                if self.stack or self.marks:
                    raise damaged("values are left over at its end")
                return value
            operation = _OPERATIONS[code]
            if operation is None:
                raise _unknown(code)
            operation(self)

    # Reading

    def take(self, count: int) -> memoryview:
        """The next bytes, without a copy."""
        start = self.position
        if count > len(self.data) - start:
            raise damaged(f"it ends {start + count - len(self.data)} bytes too early")
        self.position = start + count
        return self.data[start : self.position]

    def byte(self) -> int:
        if self.position >= len(self.data):
            raise damaged("it ends too early")
        value = self.data[self.position]
        self.position += 1
        return value

    def number(self, layout: struct.Struct) -> Any:
        return layout.unpack(self.take(layout.size))[0]

    def text(self, length: int) -> str:
        self.budget.take_text(length)
        try:
            return str(self.take(length), "utf-8")
        except UnicodeDecodeError:
            raise damaged("text that is not UTF-8") from None

    def line(self) -> str:
        """Text up to the end of a line, at most 200 bytes."""
        start = self.position
        window = bytes(self.data[start : start + 200])
        end = window.find(b"\n")
        if end < 0:
            raise damaged("a name without an end")
        self.position = start + end + 1
        try:
            return window[:end].decode("utf-8")
        except UnicodeDecodeError:
            raise damaged("a name that is not UTF-8") from None

    # The stack

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        return self.stack.pop()

    def peek(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        return self.stack[-1]

    def mark(self) -> None:
        if len(self.marks) >= MAX_MARKS:
            raise refuse(f"values nested more than {MAX_MARKS} deep")
        self.marks.append(len(self.stack))

    def pop_items(self) -> list[Any]:
        """Everything above the last mark."""
        if not self.marks:
            raise damaged("a run of values without a beginning")
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    # What an opcode does

    def remember(self, index: int) -> None:
        self.memo[index] = self.peek()

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise damaged("it refers to a value that is not there")
        self.push(self.memo[index])

    def find(self, module: Any, name: Any) -> None:
        """The stand-in of a global, by its exact name."""
        found = self.allowed.get((module, name)) if isinstance(module, str) and isinstance(name, str) else None
        if found is None:
            if not (self.foreign and _may_be_foreign(module, name)):
                raise refuse(f"it asks for '{_dotted(module, name)}'")
            found = ForeignClass(_dotted(module, name))
        self.push(found)

    def stack_global(self) -> None:
        name, module = self.pop(), self.pop()
        self.find(module, name)

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(function) is ForeignClass:
            raise refuse(f"it asks for '{function.name}'")
        if type(function) is not AllowedFunction or type(arguments) is not tuple:
            raise refuse(f"a call of {_named(function)}")
        try:
            value = function.function(self.budget, *arguments)
        except TypeError:
            # Only the number of arguments can do this: our functions check types before they use a value.
            raise refuse(f"a call of {function.name} with {len(arguments)} arguments") from None
        self.push(value)

    def new_object(self) -> None:
        arguments, kind = self.pop(), self.pop()
        if type(kind) is ForeignClass and type(arguments) is tuple:
            self.push(ForeignObject(kind.name))
            return
        if type(kind) is not AllowedClass or type(arguments) is not tuple or arguments:
            raise refuse(f"an object of {_named(kind)}")
        self.push(kind.make())

    def build(self) -> None:
        state, target = self.pop(), self.peek()
        if type(target) is OrderedDict and type(state) is dict:
            target.attributes = state
            return
        if type(target) is EasyDict and (state is None or state == {}):
            return
        if not isinstance(target, InertObject):
            raise refuse(f"a state for {_named(target)}")
        target.build(state)

    def append(self, items: list[Any]) -> None:
        target = self.peek()
        if type(target) is not list:
            raise refuse(f"items added to {_named(target)}")
        target.extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.peek()
        if type(target) not in (dict, OrderedDict, EasyDict):
            raise refuse(f"items set in {_named(target)}")
        target.update(_pairs(items))

    def add_items(self) -> None:
        items = self.pop_items()
        target = self.peek()
        if type(target) is not set:
            raise refuse(f"items added to {_named(target)}")
        target.update(checked_key(item) for item in items)

    def tuple_of(self, count: int) -> None:
        start = len(self.stack) - count
        if start < (self.marks[-1] if self.marks else 0):
            raise damaged("a value is missing")
        items = tuple(self.stack[start:])
        self.stack[start:] = [items]

    def integer(self, length: int) -> None:
        # The longest in a real file is PyTorch's magic number, of 10 bytes.
        if length > 16:
            raise refuse(f"a whole number of {length} bytes")
        self.push(int.from_bytes(self.take(length), "little", signed=True))

    def persistent_id(self) -> None:
        if self.persistent is None:
            raise refuse("a value that is not in the file")
        self.push(self.persistent(self.pop()))


def checked_key(value: Any) -> str | int:
    if type(value) not in (str, int):
        raise refuse(f"a {type(value).__name__} as the key of a dictionary")
    return value


def _pairs(items: list[Any]) -> dict[str | int, Any]:
    if len(items) % 2:
        raise damaged("a key without a value")
    return {checked_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)}


def _may_be_foreign(module: Any, name: Any) -> bool:
    """Whether this can be a class of somebody's own: a plain name in a module that we know nothing of."""
    if not isinstance(module, str) or not isinstance(name, str) or len(module) > 200 or len(name) > 200:
        return False
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        return False
    return module.startswith(_LAYERS_OF_TORCH) or module.split(".")[0].lower() not in _NEVER_FOREIGN


def _named(value: Any) -> str:
    return value.name if isinstance(value, StandIn) else f"a {type(value).__name__}"


def _dotted(module: Any, name: Any) -> str:
    parts = [ascii(part)[1:-1][:60] if isinstance(part, str) else type(part).__name__ for part in (module, name)]
    return ".".join(parts)


def _unknown(code: int) -> CheckpointError:
    program = {
        0x92: "an object with named arguments",  # NEWOBJ_EX
        0x69: "an object of any class",  # INST
        0x6F: "an object of any class",  # OBJ
        0x82: "a registered extension",  # EXT1
        0x83: "a registered extension",  # EXT2
        0x84: "a registered extension",  # EXT4
        0x50: "a value that is not in the file",  # PERSID
    }
    if code in program:
        return refuse(program[code])
    return damaged(f"{code:#04x} means nothing in a pickle of weights")


_U8, _U16, _U32, _U64 = (struct.Struct(f"<{c}") for c in "BHIQ")
_I32, _F64 = struct.Struct("<i"), struct.Struct(">d")


def _proto(m: PickleMachine) -> None:
    version = m.byte()
    if not 2 <= version <= 5:
        raise damaged(f"pickle protocol {version}; known are 2 to 5")


def _frame(m: PickleMachine) -> None:
    if m.number(_U64) > len(m.data) - m.position:
        raise damaged("it ends too early")


def _frozen_set(m: PickleMachine) -> None:
    m.push({checked_key(item) for item in m.pop_items()})


def _pop(m: PickleMachine) -> None:
    m.pop()


def _pop_mark(m: PickleMachine) -> None:
    m.pop_items()


def _global(m: PickleMachine) -> None:
    module = m.line()
    m.find(module, m.line())


def _set_item(m: PickleMachine) -> None:
    value, key = m.pop(), m.pop()
    m.set_items([key, value])


def _text_string(m: PickleMachine, layout: struct.Struct) -> None:
    m.push(m.text(m.number(layout)))


_OPERATIONS: list[Callable[[PickleMachine], None] | None] = [None] * 256
for _code, _operation in {
    0x80: _proto,
    0x95: _frame,
    0x28: PickleMachine.mark,
    0x30: _pop,
    0x31: _pop_mark,
    0x4E: lambda m: m.stack.append(None),
    0x88: lambda m: m.stack.append(True),
    0x89: lambda m: m.stack.append(False),
    0x4A: lambda m: m.stack.append(m.number(_I32)),
    0x4B: lambda m: m.stack.append(m.byte()),
    0x4D: lambda m: m.stack.append(m.number(_U16)),
    0x8A: lambda m: m.integer(m.byte()),
    0x8B: lambda m: m.integer(m.number(_U32)),
    0x47: lambda m: m.stack.append(m.number(_F64)),
    0x58: lambda m: _text_string(m, _U32),
    0x8C: lambda m: _text_string(m, _U8),
    0x8D: lambda m: _text_string(m, _U64),
    0x42: lambda m: m.stack.append(m.take(m.number(_U32))),
    0x43: lambda m: m.stack.append(m.take(m.byte())),
    0x8E: lambda m: m.stack.append(m.take(m.number(_U64))),
    0x96: lambda m: m.stack.append(m.take(m.number(_U64))),
    0x29: lambda m: m.stack.append(()),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    0x74: lambda m: m.stack.append(tuple(m.pop_items())),
    0x5D: lambda m: m.stack.append([]),
    0x61: lambda m: m.append([m.pop()]),
    0x65: lambda m: m.append(m.pop_items()),
    0x6C: lambda m: m.stack.append(m.pop_items()),
    0x7D: lambda m: m.stack.append({}),
    0x73: _set_item,
    0x75: lambda m: m.set_items(m.pop_items()),
    0x64: lambda m: m.stack.append(_pairs(m.pop_items())),
    0x8F: lambda m: m.stack.append(set()),
    0x90: PickleMachine.add_items,
    0x91: _frozen_set,
    0x71: lambda m: m.remember(m.byte()),
    0x72: lambda m: m.remember(m.number(_U32)),
    0x68: lambda m: m.recall(m.byte()),
    0x6A: lambda m: m.recall(m.number(_U32)),
    0x94: lambda m: m.remember(len(m.memo)),
    0x63: _global,
    0x93: PickleMachine.stack_global,
    0x52: PickleMachine.reduce,
    0x81: PickleMachine.new_object,
    0x62: PickleMachine.build,
    0x51: PickleMachine.persistent_id,
}.items():
    _OPERATIONS[_code] = _operation
