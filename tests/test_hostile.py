"""Files made to harm: nothing in them runs, and each ends in one clear error, soon and without much memory.

The files are read by one process, as the reader's own child reads them: without PyTorch, with a limit of 2 GB. Payloads
would create a file, the canary; a control shows that Python's own reader does run them.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draggan.checkpoints import sandbox
from draggan.checkpoints.detect import describe_bytes
from draggan.checkpoints.read import read_checkpoint
from draggan.errors import CheckpointError, UnsafeCheckpoint
from draggan.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from tests.published import (
    SMALL,
    Persistent,
    SingleDisc,
    dumps,
    dumps_torch,
    generator_file,
    layer,
    network,
    tensorflow_network,
)

GOLDEN = Path(__file__).parent / "golden"
CANARY = "/tmp/draggan-canary-%s"
SECONDS, MEMORY = 10.0, 2 << 30

# ----------------------------------------------------------------------------------------- writing byte code


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def blob(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    size = max((value.bit_length() + 8) // 8, 1)
    return b"\x8a" + bytes([size]) + value.to_bytes(size, "little", signed=True)


def values(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + b"\x93"


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    return name(module, attribute) + values(*arguments) + b"R"


def pickled(code: bytes) -> bytes:
    return b"\x80\x04" + code + b"."


SHELL = f"touch {CANARY % 'shell'}"
PAYLOAD = call("os", "system", text(SHELL))
FLOAT = b"ctorch\nFloatStorage\n"


def storage_blob(
    numel: int = 4,
    *,
    data: bytes | None = None,
    head: bytes | None = None,
    kind: bytes = FLOAT,
    said: int | None = None,
) -> bytes:
    """What torch embeds for one storage; every part can be made wrong."""
    said = numel if said is None else said
    start = pickled(number(0x1950A86A20F9469CFC6C)) + pickled(number(1001))
    info = text("protocol_version") + number(1001) + text("little_endian") + b"\x88"
    start += pickled(b"}(" + info + b"u")
    pid = values(text("storage"), kind, text("0"), text("cpu"), number(numel), b"N") + b"Q"
    body = pickled(pid) if head is None else head
    data = bytes(4 * max(numel, 0)) if data is None else data
    return start + body + pickled(b"](" + text("0") + b"e") + struct.pack("<q", said) + data


def storage(**options: Any) -> bytes:
    return call("torch.storage", "_load_from_bytes", blob(storage_blob(**options)))


def tensor(size: bytes, strides: bytes, offset: bytes = b"K\x00", over: bytes | None = None) -> bytes:
    arguments = (over or storage(), offset, size, strides, b"\x89", call("collections", "OrderedDict"))
    return call("torch._utils", "_rebuild_tensor_v2", *arguments)


def ints(*items: int) -> bytes:
    return values(*(number(item) for item in items))


def dtype(code: str, state: bytes | None = None) -> bytes:
    made = call("numpy", "dtype", text(code), b"\x89", b"\x88")
    standard = values(b"K\x03", text("<"), b"N", b"N", b"N", number(-1), number(-1), b"K\x00")
    return made + (state or standard) + b"b"


def array(shape: bytes, raw: bytes, kind: bytes) -> bytes:
    made = call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), ints(0), blob(b"b"))
    return made + values(b"K\x01", shape, kind, b"\x89", blob(raw)) + b"b"


def in_file(code: bytes) -> bytes:
    """A whole file with this where G_ema is expected."""
    return pickled(b"}" + text("G_ema") + code + b"s")


# ------------------------------------------------------------------------------- changing networks we can write


def changed(change: Callable[[dict[str, Any], Persistent], None]) -> bytes:
    content = generator_file(SMALL)
    change(content, content["G_ema"])
    return dumps(content)


def part(root: Persistent, path: str) -> dict[str, Any]:
    for step in path.split("."):
        root = root.state["_modules"][step]
    return root.state


def with_arguments(**arguments: Any) -> bytes:
    return changed(lambda content, root: root.state["_init_kwargs"].update(arguments))


def with_weight(weight: Any) -> bytes:
    def change(content: dict, root: Persistent) -> None:
        part(root, "mapping.fc0")["_parameters"]["weight"] = weight

    return changed(change)


class Calls:
    """Pickled as a call of any function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def nested(depth: int) -> Any:
    value: Any = "x"
    for _ in range(depth):
        value = [value]
    return value


def laughs(levels: int) -> Any:
    value: Any = ["ha"] * 10
    for _ in range(levels):
        value = [value] * 10
    return value


def itself() -> list:
    value: list = []
    value.append(value)
    return value


def own_child(content: dict, root: Persistent) -> None:
    root.state["_modules"]["again"] = root


def many_children(content: dict, root: Persistent) -> None:
    child = layer("L")
    for _ in range(20):
        parent = layer("L")
        parent.state["_modules"] = {"a": child, "b": child}
        child = parent
    root.state["_modules"]["tree"] = child


def wide_children(content: dict, root: Persistent) -> None:
    leaf = layer("L")
    leaf.state["_buffers"] = dict.fromkeys(f"n{i}" for i in range(3000))
    for i in range(3000):
        root.state["_modules"][f"m{i}"] = leaf


def repeated(content: dict, root: Persistent) -> None:
    weight = torch.nn.Parameter(torch.zeros(1 << 20), requires_grad=False)
    for i in range(2000):
        part(root, "mapping.fc0")["_parameters"][f"w{i}"] = weight


def archive(pickle_code: bytes, entries: dict[str, bytes] | None = None, compress: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compress) as file:
        file.writestr("archive/data.pkl", pickle_code)
        for entry, data in (entries or {}).items():
            file.writestr(entry if "/" in entry else f"archive/data/{entry}", data)
    return stream.getvalue()


def archived_tensor(numel: int, size: int, key: str = "0") -> bytes:
    pid = values(text("storage"), FLOAT, text(key), text("cpu"), number(numel)) + b"Q"
    return call("torch._utils", "_rebuild_tensor_v2", pid, b"K\x00", ints(size), ints(1), b"\x89", b"}")


def edited_archive(edit: Callable[[bytearray], None]) -> bytes:
    content = bytearray(archive(pickled(b"}"), {"0": bytes(64)}))
    edit(content)
    return bytes(content)


def crowd() -> bytes:
    """A directory of 21,000 entries."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for i in range(21_000):
            file.writestr(f"a/{i}", b"")
    return stream.getvalue()


def twice() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("archive/data.pkl", pickled(b"}"))
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("archive/data.pkl", pickled(PAYLOAD))
    return stream.getvalue()


def flag_encrypted(content: bytearray) -> None:
    at = content.rindex(b"PK\x01\x02")
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[at + 8] |= 1


def spoil(content: bytearray) -> None:
    content[content.index(b"data.pkl") + 8] ^= 0xFF


def tensorflow(variables: list, static: dict | None = None, **components: Any) -> bytes:
    net = tensorflow_network(variables, static or {}, **components)
    return dumps((net, net, net))


def tensorflow_cycle() -> bytes:
    net = tensorflow_network([], {})
    net.state["components"] = {"synthesis": net}
    return dumps((net, net, net))


def rosinality(**changes: Any) -> bytes:
    old = torch.load(GOLDEN / "rosinality-32.pt", weights_only=True)
    return dumps_torch({**old, "g_ema": {**old["g_ema"], **changes}})


def appended() -> bytes:
    return dumps(generator_file(SMALL)) + pickled(PAYLOAD)


def tables(depth: int, width: int) -> Any:
    """Dictionaries in dictionaries, each with a tensor."""
    content: dict[str, Any] = {"w.x": torch.zeros(1)}
    if depth:
        content |= {f"t{i}": tables(depth - 1, width) for i in range(width)}
    return content


def shared_tables(width: int) -> Any:
    """A small file whose tables are there many times over."""
    content: dict[str, Any] = {"w.x": torch.zeros(1)}
    for _ in range(4):
        content = {f"t{i}": content for i in range(width)}
    return content


def own_table() -> bytes:
    """A dictionary that has itself, under many names."""
    content: dict[str, Any] = {"w.x": torch.zeros(1)}
    content |= {f"t{i}": content for i in range(50)}
    return dumps_torch(content)


def bare(*, average: bool = True) -> dict[str, torch.Tensor]:
    """The state dict of a small generator."""
    torch.manual_seed(0)
    state = {
        key: value.detach()
        for key, value in StyleGAN2Generator(StyleGAN2Config.from_mapping(SMALL)).state_dict().items()
    }
    return {key: value for key, value in state.items() if average or key != "mapping.w_avg"}


def own_arguments(kwargs: Any) -> bytes:
    """A state dict with arguments where our own conversions keep them."""
    state = OrderedDict(bare())
    said = {"draggan": {"G_ema": {"family": "stylegan2", "kwargs": {"x": kwargs}}}}
    state._metadata = OrderedDict(said)  # type: ignore[attr-defined]
    return dumps_torch(state)


def zipped_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # its stub takes the names for options
    return stream.getvalue()


SAFE, CHECK = "UnsafeCheckpoint", "CheckpointError"
Case = tuple[Callable[[], bytes], str, str]
CASES: dict[str, Case] = {
    # Calls of what the file names
    "os.system, text": (lambda: f"cos\nsystem\n(S'{SHELL}'\ntR.".encode(), SAFE, "asks for 'os.system'"),
    "os.system, protocol 2": (lambda: b"\x80\x02cos\nsystem\n(" + text(SHELL) + b"tR.", SAFE, "asks for 'os.system'"),
    "posix.system": (lambda: in_file(call("posix", "system", text(SHELL))), SAFE, "asks for 'posix.system'"),
    "nt.system": (lambda: in_file(call("nt", "system", text(SHELL))), SAFE, "asks for 'nt.system'"),
    "exec": (lambda: in_file(call("builtins", "exec", text("import os; os.system('x')"))), SAFE, "'builtins.exec'"),
    "eval": (lambda: in_file(call("builtins", "eval", text("1"))), SAFE, "'builtins.eval'"),
    "compile": (lambda: in_file(call("builtins", "compile", text("1"))), SAFE, "'builtins.compile'"),
    "import": (lambda: in_file(call("builtins", "__import__", text("os"))), SAFE, "'builtins.__import__'"),
    "getattr chain": (
        lambda: in_file(call("builtins", "getattr", call("builtins", "__import__", text("os")), text("system"))),
        SAFE,
        "'builtins.getattr'",
    ),
    "operator.attrgetter": (lambda: in_file(call("operator", "attrgetter", text("system"))), SAFE, "attrgetter"),
    "functools.partial": (lambda: in_file(call("functools", "partial", PAYLOAD)), SAFE, "'functools.partial'"),
    "subprocess": (lambda: in_file(call("subprocess", "Popen", text(SHELL))), SAFE, "'subprocess.Popen'"),
    "runpy": (lambda: in_file(call("runpy", "_run_code", text("1"))), SAFE, "'runpy._run_code'"),
    "torch.load": (lambda: in_file(call("torch", "load", text("x"))), SAFE, "'torch.load'"),
    "numpy.load": (lambda: in_file(call("numpy", "load", text("x"))), SAFE, "'numpy.load'"),
    "pickle.loads": (lambda: in_file(call("pickle", "loads", blob(pickled(PAYLOAD)))), SAFE, "'pickle.loads'"),
    "copyreg": (lambda: in_file(call("copyreg", "_reconstructor", b"N")), SAFE, "'copyreg._reconstructor'"),
    "dotted name": (lambda: in_file(call("collections", "OrderedDict.fromkeys", b"]")), SAFE, "OrderedDict.fromkeys"),
    "dotted class": (lambda: in_file(name("dnnlib.util", "EasyDict.__init__")), SAFE, "EasyDict.__init__"),
    "name of another case": (lambda: in_file(name("Torch", "FloatStorage")), SAFE, "'Torch.FloatStorage'"),
    "name that is no text": (lambda: in_file(b"K\x01" + text("x") + b"\x93"), SAFE, "asks for 'int.x'"),
    "storage kind outside": (lambda: in_file(name("torch", "FloatStorage")), SAFE, "'torch.FloatStorage'"),
    "payload as a dictionary's value": (
        lambda: changed(lambda c, r: c.update(x=Calls(print, 1))),
        SAFE,
        "builtins.print",
    ),
    "payload among attributes": (
        lambda: changed(lambda c, r: r.state.update(hook=Calls(exec, "1"))),
        SAFE,
        "'builtins.exec'",
    ),
    "payload behind the end": (appended, CHECK, "bytes are left over at its end"),
    "call of a value": (lambda: in_file(text("x") + b")R"), SAFE, "a call of a str"),
    "call of a call": (lambda: in_file(call("collections", "OrderedDict") + b")R"), SAFE, "a call of a Ordered"),
    "call without arguments": (lambda: in_file(name("numpy", "dtype") + b"]R"), SAFE, "a call of numpy.dtype"),
    "call with too many": (lambda: in_file(call("numpy", "dtype", *[b"N"] * 9)), SAFE, "numpy.dtype with 9 arguments"),
    # Nested pickles
    "nested pickle instead of a storage": (
        lambda: in_file(call("torch.storage", "_load_from_bytes", blob(pickled(PAYLOAD)))),
        SAFE,
        "asks for 'os.system'",
    ),
    "nested pickle as a storage's head": (
        lambda: in_file(storage(head=pickled(PAYLOAD))),
        SAFE,
        "asks for 'os.system'",
    ),
    "nested pickle as a storage's kind": (lambda: in_file(storage(kind=PAYLOAD)), SAFE, "asks for 'os.system'"),
    "nested archive as a storage": (
        lambda: in_file(call("torch.storage", "_load_from_bytes", blob(archive(pickled(PAYLOAD))))),
        SAFE,
        "a value that is not in the file",
    ),
    "storage of text": (
        lambda: in_file(call("torch.storage", "_load_from_bytes", text("x"))),
        SAFE,
        "not made of bytes",
    ),
    "storage of another kind": (lambda: in_file(storage(kind=b"ctorch\nQInt8Storage\n")), SAFE, "QInt8Storage"),
    "bytes behind a storage": (lambda: in_file(storage(data=bytes(20))), SAFE, "4 bytes behind a storage"),
    "embedded source": (lambda: changed(lambda c, r: r.meta.update(module_src=b"x")), SAFE, "does not say what it is"),
    "persistent function": (lambda: changed(lambda c, r: r.meta.update(type="func")), SAFE, "does not say what it is"),
    # States on what takes none
    "state on a class": (
        lambda: in_file(name("dnnlib.util", "EasyDict") + b"}b"),
        SAFE,
        "a state for dnnlib.util.EasyDict",
    ),
    "state on a function": (
        lambda: in_file(name("torch._utils", "_rebuild_tensor_v2") + b"}" + text("__code__") + b"Nsb"),
        SAFE,
        "a state for torch._utils._rebuild_tensor_v2",
    ),
    "state on a tensor": (lambda: in_file(tensor(ints(4), ints(1)) + b"}b"), SAFE, "a state for a Tensor"),
    "state on a storage": (lambda: in_file(storage() + b"}b"), SAFE, "a state for a Storage"),
    "state on a network": (lambda: dumps(generator_file(SMALL)["G_ema"])[:-1] + b"}b.", SAFE, "a state for a Module"),
    "state on a dictionary": (lambda: in_file(b"}}b"), SAFE, "a state for a dict"),
    "attributes of an EasyDict": (
        lambda: in_file(name("dnnlib.util", "EasyDict") + b")\x81}" + text("__class__") + b"Nsb"),
        SAFE,
        "a state for a Easy",
    ),
    "object of a function": (lambda: in_file(name("numpy", "dtype") + b")\x81"), SAFE, "an object of numpy.dtype"),
    "items of a tensor": (lambda: in_file(tensor(ints(4), ints(1)) + text("x") + b"Ns"), SAFE, "items set in a Tensor"),
    "items added to text": (lambda: in_file(text("x") + b"Na"), SAFE, "items added to a str"),
    # Opcodes that data does not need
    "INST": (lambda: b"(ios\nsystem\n.", SAFE, "an object of any class"),
    "OBJ": (lambda: b"\x80\x02(cos\nsystem\no.", SAFE, "asks for 'os.system'"),
    "NEWOBJ_EX": (lambda: pickled(name("dnnlib.util", "EasyDict") + b")}\x92"), SAFE, "an object with named arguments"),
    "EXT1": (lambda: pickled(b"\x82\x01"), SAFE, "a registered extension"),
    "PERSID": (lambda: b"\x80\x02Px\n.", SAFE, "a value that is not in the file"),
    "BINPERSID": (lambda: in_file(text("x") + b"Q"), SAFE, "a value that is not in the file"),
    "unknown opcode": (lambda: b"\x80\x04\xff.", CHECK, "0xff means nothing"),
    "protocol 9": (lambda: b"\x80\x09N.", CHECK, "pickle protocol 9"),
    "empty stack": (lambda: b"\x80\x04R.", CHECK, "a value is missing"),
    "memo of nothing": (lambda: b"\x80\x04h\x07.", CHECK, "refers to a value that is not there"),
    "key without a value": (lambda: pickled(b"}(" + text("x") + b"u"), CHECK, "a key without a value"),
    # Tensors outside their storage
    "strides of 0": (lambda: in_file(tensor(ints(1 << 30), ints(0))), SAFE, "over a storage of 4"),
    "strides too large": (lambda: in_file(tensor(ints(2, 2), ints(1 << 40, 1))), SAFE, "over a storage of 4"),
    "negative stride": (lambda: in_file(tensor(ints(4), ints(-1))), SAFE, "the stride -1"),
    "negative size": (lambda: in_file(tensor(ints(-4), ints(1))), SAFE, "the size -4"),
    "negative offset": (lambda: in_file(tensor(ints(4), ints(1), number(-1))), SAFE, "the offset -1"),
    "offset too large": (lambda: in_file(tensor(ints(1), ints(1), number(4))), SAFE, "over a storage of 4"),
    "sizes that overflow": (lambda: in_file(tensor(ints(1 << 40, 1 << 40), ints(1, 1))), SAFE, "over a storage of 4"),
    "sizes beyond numbers": (lambda: in_file(tensor(ints(1 << 100), ints(1))), SAFE, "the size 1267"),
    "sizes of other types": (lambda: in_file(tensor(values(text("4")), ints(1))), SAFE, "the size '4'"),
    "flags as sizes": (lambda: in_file(tensor(values(b"\x88"), ints(1))), SAFE, "the size True"),
    "too many sizes": (lambda: in_file(tensor(ints(*[1] * 40), ints(*[1] * 40))), SAFE, "an unusual size"),
    "sizes without strides": (lambda: in_file(tensor(ints(4), ints())), SAFE, "1 sizes and 0 strides"),
    "tensor over text": (lambda: in_file(tensor(ints(4), ints(1), over=text("x"))), SAFE, "not over a storage"),
    "storage shorter than it says": (lambda: in_file(storage(numel=1000, data=bytes(16))), CHECK, "bytes too early"),
    "storage with two lengths": (lambda: in_file(storage(said=5)), SAFE, "says it has 5"),
    "storage of negative length": (lambda: in_file(storage(numel=-4)), SAFE, "the number of items -4"),
    "storage of huge length": (lambda: in_file(storage(numel=1 << 45, data=b"")), CHECK, "bytes too early"),
    "parameter of text": (
        lambda: in_file(call("torch._utils", "_rebuild_parameter", text("x"), b"\x89", b"}")),
        SAFE,
        "a parameter that is not a tensor",
    ),
    # numpy
    "dtype of objects": (lambda: in_file(dtype("O8")), SAFE, "the numpy data type 'O8'"),
    "dtype of text": (lambda: in_file(dtype("U8")), SAFE, "the numpy data type 'U8'"),
    "dtype with fields": (
        lambda: in_file(dtype("f4", values(b"K\x03", text("<"), b"N", values(text("x")), b"}", b"N", b"N", b"N"))),
        SAFE,
        "with fields",
    ),
    "array too short": (lambda: in_file(array(ints(100), bytes(16), dtype("f4"))), SAFE, "over 16 bytes"),
    "array too large": (lambda: in_file(array(ints(1 << 40, 1 << 40), bytes(16), dtype("f4"))), SAFE, "over 16 bytes"),
    "array of pickled objects": (
        lambda: in_file(
            call("numpy.core.multiarray", "_reconstruct", name("numpy", "ndarray"), ints(0), blob(b"b"))
            + values(b"K\x01", ints(1), dtype("f4"), b"\x89", b"](" + PAYLOAD + b"e")
            + b"b"
        ),
        SAFE,
        "asks for 'os.system'",
    ),
    "array of another class": (
        lambda: in_file(call("numpy.core.multiarray", "_reconstruct", name("numpy", "dtype"), ints(0), blob(b"b"))),
        SAFE,
        "a numpy array of an unusual kind",
    ),
    # Too large, too deep, too long
    "bytes longer than the file": (lambda: pickled(b"\x8e" + struct.pack("<Q", 1 << 60)), CHECK, "bytes too early"),
    "bytearray longer than the file": (lambda: pickled(b"\x96" + struct.pack("<Q", 1 << 40)), CHECK, "too early"),
    "text longer than the file": (lambda: pickled(b"X" + struct.pack("<I", 1 << 31)), SAFE, "bytes of text"),
    "frame longer than the file": (lambda: pickled(b"\x95" + struct.pack("<Q", 1 << 40)), CHECK, "ends too early"),
    "memo index": (lambda: pickled(b"Nr" + struct.pack("<I", 0xFFFFFFFF)), CHECK, "holds a NoneType"),
    "long number": (lambda: pickled(b"\x8b" + struct.pack("<I", 1 << 30)), SAFE, "a whole number of 1073741824 bytes"),
    "nested tuples": (lambda: pickled(b")" + b"\x85" * 900_000), CHECK, "holds a tuple"),
    "nested lists": (lambda: pickled(b"]" + b"]" * 300_000 + b"a" * 300_000), CHECK, "holds a list"),
    "nested marks": (lambda: pickled(b"(" * 900_000), SAFE, "nested more than 500 deep"),
    "tuple as key": (lambda: pickled(b"})Ns"), SAFE, "a tuple as the key"),
    "tuples of tuples as key": (
        lambda: pickled(b"})q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"Ns"),
        SAFE,
        "a tuple as the key",
    ),
    "tuples of tuples in a set": (
        lambda: pickled(b"\x8f()q\x00" + b"".join(b"0h%ch%c\x86q%c" % (i, i, i + 1) for i in range(60)) + b"\x90"),
        SAFE,
        "a tuple as the key",
    ),
    "many steps": (lambda: b"\x80\x04" + b"N0" * 3_000_000 + b".", SAFE, "more than 1000000 steps"),
    "many dictionaries": (lambda: b"\x80\x04" + b"}" * 3_000_000 + b".", SAFE, "more than 1000000 steps"),
    "many large sets": (
        lambda: pickled(b"](" + b"K\x01" * 50_000 + b"eq\x00" + (name("builtins", "set") + b"h\x00\x85R0") * 3000),
        SAFE,
        "more than 1000000 steps",
    ),
    "text encoded again and again": (
        lambda: pickled(
            text("x" * 4_000_000) + b"q\x000" + b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R" * 5000
        ),
        SAFE,
        "bytes of text",
    ),
    "one source again and again": (lambda: changed(wide_sources), CHECK, "is none we know"),
    "laughs in arguments": (lambda: with_arguments(resample_filter=laughs(9)), SAFE, "too deeply or too long"),
    "deep arguments": (lambda: with_arguments(resample_filter=nested(400)), SAFE, "nested"),
    "arguments in themselves": (lambda: with_arguments(resample_filter=itself()), SAFE, "too deeply or too long"),
    "network in itself": (lambda: changed(own_child), SAFE, "nested too deeply or too many"),
    "tree of layers": (lambda: changed(many_children), SAFE, "nested too deeply or too many"),
    "wide layers again and again": (lambda: changed(wide_children), SAFE, "more than 1000000 steps"),
    "one tensor again and again": (lambda: changed(repeated), SAFE, "much larger than their file"),
    # Networks that are not what they should be
    "activation by name": (lambda: with_arguments(activation="os.system"), CHECK, "activation = 'os.system'"),
    "resolution as text": (lambda: with_arguments(img_resolution="8"), CHECK, "img_resolution = '8'"),
    "negative width": (lambda: with_arguments(channel_max=-1), CHECK, "channel_max = -1"),
    "huge width": (lambda: with_arguments(channel_base=1 << 60), CHECK, "channel_base = 1152921504606846976"),
    "negative size of the constant": (
        lambda: with_arguments(init_res=[-4, 4]),
        CHECK,
        "init_res = list is not allowed",
    ),
    "absurd size of the constant": (lambda: with_arguments(init_res=[4, 1 << 62]), CHECK, "init_res = list is not"),
    "size of the constant in itself": (lambda: with_arguments(init_res=itself()), SAFE, "too deeply or too long"),
    "size of the constant as text": (lambda: with_arguments(init_res="4 4"), CHECK, "init_res = '4 4' is not allowed"),
    "constant of a huge ratio": (
        lambda: dumps_torch({**bare(), "synthesis.b4.const": torch.zeros(8, 1, 5000)}),
        CHECK,
        "init_res = list is not allowed",
    ),
    "argument that is a tensor": (lambda: with_arguments(z_dim=torch.zeros(1)), SAFE, "a setting that is a Tensor"),
    "argument that is a network": (lambda: with_arguments(z_dim=layer("X")), SAFE, "a setting that is a Module"),
    "arguments that are a list": (
        lambda: changed(lambda c, r: r.state.update(_init_kwargs=[])),
        CHECK,
        "are unreadable",
    ),
    "many positional arguments": (
        lambda: changed(lambda c, r: r.state.update(_init_args=(1,) * 9)),
        CHECK,
        "are unreadable",
    ),
    "weights of whole numbers": (
        lambda: with_weight(torch.zeros(8, 8, dtype=torch.int64)),
        CHECK,
        "holds int64 numbers",
    ),
    "weights that are not numbers": (lambda: with_weight(torch.full((8, 8), np.nan)), CHECK, "not finite numbers"),
    "weights of another shape": (lambda: with_weight(torch.zeros(8, 8, 1)), CHECK, "2 sizes from 1 on are expected"),
    "weights of no size": (lambda: with_weight(torch.zeros(0, 8)), CHECK, "2 sizes from 1 on are expected"),
    "weight that is text": (lambda: with_weight("x"), CHECK, "is a str where a tensor is expected"),
    "parameters that are a list": (
        lambda: changed(lambda c, r: r.state.update(_parameters=[1])),
        CHECK,
        "_parameters of a layer is a list",
    ),
    "layer called like a path": (
        lambda: changed(lambda c, r: r.state["_modules"].update({"../../x": layer("X")})),
        CHECK,
        "is called '../../x'",
    ),
    "network that is text": (lambda: dumps({"G_ema": "x"}), CHECK, "G_ema of this file is a str"),
    "no network": (lambda: dumps({"H": 1}), CHECK, "none of the networks"),
    "unknown network": (lambda: dumps({"G": network({"w": torch.zeros(3)})}), CHECK, "is none we know"),
    "a number": (lambda: dumps(3), CHECK, "holds a int"),
    "missing layers": (
        lambda: changed(lambda c, r: part(r, "synthesis")["_modules"].pop("b8")),
        CHECK,
        "contradicts its tensors",
    ),
    # Archives
    "archive with a payload": (lambda: archive(pickled(PAYLOAD)), SAFE, "asks for 'os.system'"),
    "archive with a nested storage": (
        lambda: archive(pickled(call("torch.storage", "_load_from_bytes", blob(pickled(PAYLOAD))))),
        SAFE,
        "_load_from_bytes",
    ),
    "compressed archive": (
        lambda: archive(pickled(archived_tensor(1 << 22, 1 << 22)), {"0": bytes(1 << 24)}, zipfile.ZIP_DEFLATED),
        SAFE,
        "the compressed or encrypted archive entry",
    ),
    "encrypted archive": (lambda: edited_archive(flag_encrypted), SAFE, "the compressed or encrypted archive entry"),
    "archive with a wrong checksum": (lambda: edited_archive(spoil), CHECK, "the checksum of archive entry"),
    "archive with two pickles of one name": (twice, SAFE, "twice or with an unusual name"),
    "archive of many entries": (crowd, SAFE, "an archive of 21000 entries"),
    "archive without a directory": (lambda: archive(pickled(b"}"))[:-30], CHECK, "directory is missing"),
    "archive of something else": (lambda: archive_of({"word/document.xml": b"x"}), CHECK, "not written by torch.save"),
    "archive entry outside": (lambda: archive_of({"../../etc/data.pkl": b"x"}), CHECK, "not written by torch.save"),
    "TorchScript": (lambda: archive(pickled(b"}"), {"archive/constants.pkl": b"x"}), CHECK, "a TorchScript file"),
    "big-endian archive": (lambda: archive(pickled(b"}"), {"archive/byteorder": b"big"}), CHECK, "big-endian"),
    "archive without a storage": (lambda: archive(pickled(archived_tensor(4, 4))), CHECK, "storage '0' is missing"),
    "archived storage of another size": (
        lambda: archive(pickled(archived_tensor(4, 4)), {"0": bytes(8)}),
        SAFE,
        "storage '0' of 4 items over 8 bytes",
    ),
    "archived tensor outside": (
        lambda: archive(pickled(archived_tensor(4, 5)), {"0": bytes(16)}),
        SAFE,
        "over a storage of 4",
    ),
    "archived storage by a path": (
        lambda: archive(pickled(archived_tensor(4, 4, "../../../../etc/passwd"))),
        CHECK,
        "is missing",
    ),
    "archive of a tensor": (lambda: dumps_torch(torch.zeros(3)), CHECK, "if it is a latent code, open it as one"),
    "archive of other weights": (
        lambda: dumps_torch({"model": {"w": torch.zeros(3)}}),
        CHECK,
        "neither 'g_ema' nor 'g'",
    ),
    "old archive with a payload": (
        lambda: dumps_torch({"x": Calls(exec, "1")}, _use_new_zipfile_serialization=False),
        SAFE,
        "'__builtin__.exec'",
    ),
    "old archive cut off": (
        lambda: dumps_torch({"g": torch.zeros(99)}, _use_new_zipfile_serialization=False)[:-9],
        CHECK,
        "9 bytes too early",
    ),
    # Objects of unknown classes, which are read past
    "call of an unknown function": (lambda: in_file(call("mine", "run", text("x"))), SAFE, "asks for 'mine.run'"),
    "unknown function of a layer's module": (
        lambda: in_file(call("torch.nn.modules.module", "register_module_forward_hook", text("x"))),
        SAFE,
        "asks for 'torch.nn.modules.module.register_module_forward_hook'",
    ),
    "payload in an unknown object": (
        lambda: in_file(name("mine", "Net") + b")\x81}" + text("x") + PAYLOAD + b"sb"),
        SAFE,
        "asks for 'os.system'",
    ),
    "payload as an unknown object's arguments": (
        lambda: in_file(name("mine", "Net") + values(PAYLOAD) + b"\x81"),
        SAFE,
        "asks for 'os.system'",
    ),
    "attributes of an unknown object": (
        lambda: in_file(name("mine", "Net") + b")\x81}" + text("__class__") + name("mine", "Other") + b"sb"),
        SAFE,
        "asks for 'mine.Net'",
    ),
    "items of an unknown object": (
        lambda: in_file(name("mine", "Net") + b")\x81" + text("x") + b"Ns"),
        SAFE,
        "items set in a ForeignObject",
    ),
    "item added to an unknown object": (lambda: in_file(name("mine", "Net") + b")\x81Na"), SAFE, "items added to a"),
    "state on an unknown class": (lambda: in_file(name("mine", "Net") + b"}b"), SAFE, "a state for mine.Net"),
    "unknown object as a key": (lambda: pickled(b"}" + name("mine", "Net") + b")\x81Ns"), SAFE, "as the key"),
    "unknown class with a path": (lambda: in_file(name("mine", "Net.__init__")), SAFE, "asks for 'mine.Net.__init__'"),
    "unknown class of a file": (lambda: in_file(name("../mine", "Net")), SAFE, "asks for '../mine.Net'"),
    "Python's module under another case": (lambda: in_file(name("OS", "system")), SAFE, "asks for 'OS.system'"),
    "Python 2's module": (lambda: in_file(call("commands", "getoutput", text(SHELL))), SAFE, "'commands.getoutput'"),
    "unknown object in a storage": (lambda: in_file(storage(head=pickled(name("mine", "X")))), SAFE, "'mine.X'"),
    "unknown object as a weight": (
        lambda: changed(lambda c, r: part(r, "mapping.fc0")["_parameters"].update(weight=SingleDisc())),
        CHECK,
        "is a ForeignObject where a tensor is expected",
    ),
    "unknown objects without end": (
        lambda: pickled(b"0".join([name("mine", "Net") + b"q\x00)\x81"] + [b"h\x00)\x81"] * 400_000)),
        SAFE,
        "more than 1000000 steps",
    ),
    # State dicts
    "tables in tables": (lambda: dumps_torch(tables(12, 1)), CHECK, "holds no generator"),
    "many tables": (lambda: dumps_torch(tables(2, 20)), SAFE, "more than 200 tables"),
    "one table again and again": (lambda: dumps_torch(shared_tables(40)), SAFE, "more than 200 tables"),
    "a table in itself": (own_table, SAFE, "more than 200 tables"),
    "a state dict of many tensors": (
        lambda: dumps_torch({**bare(), **{f"synthesis.x{i}": torch.zeros(1) for i in range(5001)}}),
        CHECK,
        "tensors; a network has 5000 at most",
    ),
    "many networks in one table": (
        lambda: dumps_torch({f"{i}.{name}": tensor for i in range(200) for name, tensor in bare().items()}),
        "",
        "G_ema",
    ),
    "average latent of another shape": (
        lambda: dumps_torch({"g_ema": bare(average=False), "latent_avg": torch.zeros(0)}),
        CHECK,
        "average latent has shape [0]",
    ),
    "average latent that is text": (
        lambda: dumps_torch({"g_ema": bare(average=False), "latent_avg": "x"}),
        "",
        "G_ema",
    ),
    "mapping network of no size": (
        lambda: dumps_torch({**bare(average=False), "mapping.fc1.weight": torch.zeros(0, 8)}),
        CHECK,
        "",
    ),
    "mapping network that does not fit": (
        lambda: dumps_torch({**bare(average=False), "mapping.fc0.weight": torch.zeros(9, 8)}),
        CHECK,
        "",
    ),
    "mapping network with a hole": (
        lambda: dumps_torch({**bare(average=False), "mapping.fc7.weight": torch.zeros(8, 8)}),
        CHECK,
        "",
    ),
    "mapping network without biases": (
        lambda: dumps_torch({k: v for k, v in bare(average=False).items() if k != "mapping.fc1.bias"}),
        CHECK,
        "",
    ),
    "constant of no size": (lambda: dumps_torch({**bare(), "synthesis.b4.const": torch.zeros(8, 0, 4)}), CHECK, ""),
    "constant that is a number": (lambda: dumps_torch({**bare(), "synthesis.b4.const": torch.tensor(1.0)}), CHECK, ""),
    "absurd block": (
        lambda: dumps_torch({**bare(), "synthesis.b99999.conv0.weight": torch.zeros(8, 8, 3, 3)}),
        CHECK,
        "",
    ),
    "absurd block with noise": (
        lambda: dumps_torch(
            {
                **bare(),
                "synthesis.b65536.conv0.weight": torch.zeros(8, 8, 3, 3),
                "synthesis.b65536.conv0.noise_strength": torch.tensor(1.0),
            }
        ),
        CHECK,
        "",
    ),
    "arguments that are a network": (lambda: own_arguments(SingleDisc()), SAFE, "a setting that is a ForeignObject"),
    "arguments that are a tensor": (lambda: own_arguments(torch.zeros(1)), SAFE, "a setting that is a Tensor"),
    "laughs in our own arguments": (lambda: own_arguments(laughs(9)), SAFE, "too deeply or too long"),
    "archive of arrays that grows": (
        lambda: zipped_arrays({"w": np.zeros(1 << 25, np.float32)}),
        SAFE,
        "much larger than their file",
    ),
    "archive of objects": (
        lambda: zipped_arrays({"synthesis.b4.const": np.array([{}], object)}),
        SAFE,
        "an array of object",
    ),
    "archive with a meta that is no JSON": (
        lambda: zipped_arrays({"meta": np.array("[" * 100_000), "w": np.zeros(1, np.float32)}),
        CHECK,
        "'meta' is not a JSON object",
    ),
    "archive with a meta of numbers": (
        lambda: zipped_arrays({"meta": np.zeros(4, np.float32)}),
        CHECK,
        "an array where a text is expected",
    ),
    # TensorFlow and rosinality
    "TensorFlow with a payload": (lambda: tensorflow([("x", Calls(exec, "1"))]), SAFE, "'builtins.exec'"),
    "TensorFlow in itself": (tensorflow_cycle, SAFE, "nested too deeply or too many"),
    "TensorFlow without variables": (lambda: tensorflow([]), CHECK, "not those of a StyleGAN2 network"),
    "TensorFlow variables of no kind": (lambda: tensorflow(["x"]), CHECK, "a variable without a name"),
    "TensorFlow variable twice": (lambda: tensorflow([("x", np.zeros(1, "f4"))] * 2), CHECK, "is there twice"),
    "TensorFlow arguments": (lambda: tensorflow([], {"resolution": Calls(exec, "1")}), SAFE, "'builtins.exec'"),
    "TensorFlow unknown argument": (lambda: tensorflow([], {"func": "os.system"}), CHECK, "unknown argument 'func'"),
    "TensorFlow network of text": (lambda: dumps(("a", "b", "c")), CHECK, "is a str"),
    "rosinality with a hole": (lambda: rosinality(**{"convs.9.conv.weight": torch.zeros(3)}), CHECK, "not numbered"),
    "rosinality with another layer": (lambda: rosinality(extra=torch.zeros(3)), CHECK, "1 tensors have no place"),
    "rosinality of another shape": (
        lambda: rosinality(**{"input.input": torch.zeros(2, 24, 4, 4)}),
        CHECK,
        "the first size must be 1",
    ),
    "rosinality with another filter": (
        lambda: rosinality(**{"convs.0.conv.blur.kernel": torch.ones(4, 4)}),
        CHECK,
        "is not the usual one",
    ),
    "rosinality with text": (lambda: rosinality(**{"input.input": "x"}), CHECK, "is a str where a tensor is expected"),
    "rosinality with a wild namespace": (
        lambda: archive(pickled(name("argparse", "Namespace") + b")\x81" + text("x") + b"b")),
        SAFE,
        "an unusual state for a namespace",
    ),
}


def archive_of(entries: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for entry, data in entries.items():
            file.writestr(entry, data)
    return stream.getvalue()


def wide_sources(content: dict, root: Persistent) -> None:
    """1,500 layers, each with the same 3 MB of source."""
    source = "#" * 3_000_000
    root.state["_modules"] = {f"m{i}": Persistent("L", layer("L").state, module_src=source) for i in range(1500)}


# What the reader's child does, for many files and without ending at the first.
RUNNER = sandbox.CHILD.replace(
    "sandbox.child_main(job)",
    """
import os, resource, time
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (job["memory"], job["memory"]))
sandbox.forbid(Path(job["work"]))

def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM")) * 1024

results = {}
for path in sorted(os.listdir(job["work"])):
    start = time.perf_counter()
    try:
        description = sandbox.describe_bytes(sandbox.open_bytes(job["work"] + "/" + path))
        error, message = "", str(list(description.networks))
    except Exception as e:
        error, message = type(e).__name__, str(e)
    results[path] = [error, message, time.perf_counter() - start, peak()]
with open(job["work"] + "/results", "w") as f:
    json.dump(results, f)
""",
)


Result = tuple[str, str, float, int]
"""Error, message, seconds and memory so far."""


def read_all(files: dict[str, bytes], work: Path) -> dict[str, Result]:
    """What came of each of these files, read one after the other by one process."""
    names = [f"{i:04d}" for i in range(len(files))]
    for path, content in zip(names, files.values(), strict=True):
        (work / path).write_bytes(content)
    job = {
        "work": str(work),
        "memory": MEMORY,
        "package": str(Path(sandbox.__file__).parents[1]),
        "import_path": sys.path,
    }
    subprocess.run([sys.executable, "-I", "-c", RUNNER, json.dumps(job)], check=True, timeout=300)
    results = json.loads((work / "results").read_text())
    return {case: tuple(results[path]) for case, path in zip(files, names, strict=True)}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    return read_all({case: make() for case, (make, _, _) in CASES.items()}, tmp_path_factory.mktemp("hostile"))


needs_limits = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits and measures are Linux's")


@needs_limits
@pytest.mark.parametrize("case", CASES)
def test_hostile_file(case: str, results: dict[str, Result]) -> None:
    error, message, seconds, peak = results[case]
    _, expected, pattern = CASES[case]
    assert error == expected, message
    assert pattern in message
    assert len(message) < 1500
    assert seconds < SECONDS
    assert peak < MEMORY


@needs_limits
def test_nothing_was_run(results: dict[str, Result]) -> None:
    assert len(results) >= 40
    assert not Path(CANARY % "shell").exists()


def test_control_pythons_own_reader_runs_the_payloads(tmp_path: Path) -> None:
    # The payloads above would work: two of them, read as everybody else reads them.
    canary = tmp_path / "canary"
    for content in (CASES["os.system, text"][0](), CASES["os.system, protocol 2"][0]()):
        made = content.replace(SHELL.encode(), b"x" * len(SHELL))
        command = f"touch {canary}"
        if b"S'" in made:
            made = made.replace(b"x" * len(SHELL), command.encode())
        else:
            made = b"\x80\x02cos\nsystem\n(" + text(command) + b"tR."
        pickle.loads(made)
        assert canary.exists()
        canary.unlink()
        with pytest.raises(UnsafeCheckpoint, match=r"os\.system"):
            describe_bytes(memoryview(made))
        assert not canary.exists()


def test_embedded_source_is_hashed_and_not_run() -> None:
    import hashlib

    content = generator_file(SMALL)
    source = f"open({CANARY % 'source'!r}, 'w')\n"
    content["G_ema"].meta["module_src"] = source
    description = describe_bytes(memoryview(dumps(content)))
    assert "Generator" in description.metadata["source_sha256"][hashlib.sha256(source.encode()).hexdigest()]
    assert not Path(CANARY % "source").exists()


@needs_limits
def test_cut_off_at_every_hundredth(tmp_path: Path) -> None:
    whole = (GOLDEN / "stylegan2-32.pkl").read_bytes()
    files = {f"{i} %": whole[: len(whole) * i // 100] for i in range(1, 100)}
    archived = (GOLDEN / "rosinality-32.pt").read_bytes()
    files |= {f"archive {i} %": archived[: len(archived) * i // 100] for i in range(1, 100)}
    tensorflow_file = (GOLDEN / "stylegan2-tf-16.pkl").read_bytes()
    files |= {f"TensorFlow {i} %": tensorflow_file[: len(tensorflow_file) * i // 100] for i in range(1, 100)}
    for case, (error, message, seconds, _) in read_all(files, tmp_path).items():
        assert error == "CheckpointError", (case, error, message)
        assert "damaged" in message, (case, message)
        assert seconds < SECONDS


@pytest.mark.parametrize(
    "case",
    [
        "os.system, text",
        "nested pickle as a storage's head",
        "many dictionaries",
        "one tensor again and again",
        "compressed archive",
        "resolution as text",
    ],
)
def test_from_file_to_message(case: str, tmp_path: Path) -> None:
    make, error, pattern = CASES[case]
    path, cache = tmp_path / "model.pkl", tmp_path / "cache"
    path.write_bytes(make())
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, cache=cache)
    assert type(caught.value).__name__ == error
    assert pattern in str(caught.value)
    assert str(path) in str(caught.value)
    # Nothing is left behind, and nothing was kept.
    assert not any(cache.rglob("*"))


def test_no_file_of_ours_uses_pickle() -> None:
    for path in (Path(sandbox.__file__).parent).rglob("*.py"):
        assert "import pickle" not in path.read_text(encoding="utf-8")


# --------------------------------------------------------------------------------------------------------- fuzzing


@functools.cache
def seeds() -> tuple[bytes, ...]:
    """Valid files of every kind, small, to be mutated."""
    generator = generator_file(SMALL)
    one = {**SMALL, "img_resolution": 4}
    small = generator_file(one)
    return (
        dumps(small),
        dumps(small, 2),
        dumps_torch(small["G_ema"]),
        dumps_torch(small["G_ema"], _use_new_zipfile_serialization=False),
        dumps(generator, 3),
        (GOLDEN / "stylegan2-tf-16.pkl").read_bytes(),
        (GOLDEN / "rosinality-32.pt").read_bytes(),
        dumps_torch({"g_ema": bare(average=False)}),
        dumps({name: tensor.numpy() for name, tensor in bare().items()}),
        zipped_arrays({name: tensor.numpy() for name, tensor in bare().items()}),
        dumps({**small, "D": SingleDisc()}),
    )


OPCODES = bytes(
    [*b"(.0NJKMGX)}]aesudthjqrRbcQ", 0x80, 0x81, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x93, 0x94, 0x95, 0x90, 0x8F]
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    content = bytearray(draw(st.sampled_from(seeds())))
    for _ in range(draw(st.integers(1, 4))):
        # The head, where structure is dense, more often than the numbers.
        limit = draw(st.sampled_from([64, 1024, len(content)]))
        at = draw(st.integers(0, min(limit, len(content)) - 1))
        kind = draw(st.sampled_from(["byte", "opcode", "insert", "delete", "copy", "number"]))
        if kind == "byte":
            content[at] = draw(st.integers(0, 255))
        elif kind == "opcode":
            content[at] = draw(st.sampled_from(OPCODES))
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=8))
        elif kind == "delete":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "copy":
            other = draw(st.integers(0, len(content) - 1))
            content[at:at] = content[other : other + draw(st.integers(1, 200))]
        else:
            content[at : at + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20])))
        if not content:
            content = bytearray(b"\x80")
    return bytes(content)


def survive(content: bytes) -> str:
    """Read; only our errors may come out. What came out, in a word."""
    try:
        description = describe_bytes(memoryview(content))
    except CheckpointError as caught:
        message, kind = str(caught), type(caught).__name__
        assert 0 < len(message) < 3000
        return kind
    for found in description.networks.values():
        for array in found.tensors.values():
            assert array.dtype in (np.float16, np.float32)
        json.dumps(found.kwargs)
    return "read"


@pytest.fixture(scope="module")
def made_seeds() -> None:
    """Made before Hypothesis looks: they use random numbers."""
    seeds()


@pytest.mark.usefixtures("made_seeds")
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(mutated())
def test_mutated_files_end_in_our_errors_only(content: bytes) -> None:
    survive(content)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(OPCODES) | st.integers(0, 255), max_size=60))
def test_random_byte_code_ends_in_our_errors_only(code: list[int]) -> None:
    survive(b"\x80\x04" + bytes(code))
