"""What takes the place of the functions, classes and objects that a pickle names.

Each is an object of ours with ``__slots__`` and says what may be done with it: an `AllowedFunction` may be called, an
`AllowedClass` may be instantiated, an `InertObject` may be given a state, and nothing else may be done with any of
them. So a state never becomes the attributes of a function or class.

Networks of other programs are objects of classes that we do not know (a `ForeignClass`). They are read as what they
are, names and values, so that what else is in the file can be used; calling anything unknown ends the reading.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from draggan.checkpoints.pickle.budget import refuse

__all__ = [
    "AllowList",
    "AllowedClass",
    "AllowedFunction",
    "EasyDict",
    "ForeignClass",
    "ForeignObject",
    "Ignored",
    "InertObject",
    "Module",
    "OrderedDict",
    "StandIn",
    "StorageKind",
    "TensorFlowNetwork",
]


class StandIn:
    """Something that a file may name. On its own it is good for nothing."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


class AllowedFunction(StandIn):
    """May be called: with a function of ours that checks every argument. Its first argument is the `Budget`."""

    __slots__ = ("function",)

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        super().__init__(name)
        self.function = function


class AllowedClass(StandIn):
    """May be instantiated without arguments."""

    __slots__ = ("make",)

    def __init__(self, name: str, make: Callable[[], Any]) -> None:
        super().__init__(name)
        self.make = make


class ForeignClass(StandIn):
    """A class of the program that wrote the file. Objects of it can be read past, and that is all."""

    __slots__ = ()


class StorageKind(StandIn):
    """The element type of a storage ("FloatStorage", ...)."""

    __slots__ = ("dtype",)

    def __init__(self, name: str, dtype: str) -> None:
        super().__init__(name)
        self.dtype = dtype


class InertObject:
    """An object under construction. What state it takes, if any, is its own business."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        raise refuse(f"a state for a {type(self).__name__}")


class OrderedDict(dict):
    """Stands for OrderedDict.

    Attributes:
        attributes: PyTorch hangs version numbers on state dicts, and our own conversions the network's arguments.
    """

    __slots__ = ("attributes",)

    def __init__(self) -> None:
        super().__init__()
        self.attributes: dict = {}


class EasyDict(dict):
    """Stands for dnnlib's EasyDict."""

    __slots__ = ()


class Module(InertObject):
    """A network or layer from an NVIDIA file: its class name, its state, and the source that nobody runs."""

    __slots__ = ("class_name", "source", "state")

    def __init__(self, class_name: str, source: str, state: dict) -> None:
        self.class_name, self.source, self.state = class_name, source, state


class TensorFlowNetwork(InertObject):
    """A network from a TensorFlow file."""

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: dict | None = None

    def build(self, state: Any) -> None:
        if type(state) is not dict or self.state is not None:
            raise refuse("an unusual state for a TensorFlow network")
        self.state = state


class ForeignObject(InertObject):
    """An object of a class that is not known here: the class's name and what the file says of its attributes."""

    __slots__ = ("class_name", "state")

    def __init__(self, class_name: str) -> None:
        self.class_name = class_name
        self.state: dict = {}

    def build(self, state: Any) -> None:
        if type(state) is dict:
            self.state = state


class Ignored(InertObject):
    """An object that is of no use here: an argparse namespace, a device, a data type."""

    __slots__ = ()

    def build(self, state: Any) -> None:
        if type(state) is not dict:
            raise refuse("an unusual state for a namespace")


# Stand-ins by the exact (module, name) that a pickle writes.
AllowList = Mapping[tuple[str, str], StandIn]
