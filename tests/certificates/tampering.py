"""What can be done to a certificate: to bits of the file, to bits of what it holds, and to its parts."""

from __future__ import annotations

import copy
import io
import itertools
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.certificates.proofs import pack, unpack

__all__ = [
    "POOL",
    "archived",
    "contents",
    "flipped",
    "flipped_inside",
    "parent_of",
    "places",
    "rearranged",
    "silent",
    "strangers",
]

#: What a manifest may hold instead.
POOL: list[Any] = [
    None, True, False, 0, 1, -1, 2**70, 10**300, 1.5, 1e308, "", "x", "0x1.0p+0", "-0x1.0p+0",
    "0x1.fffffffffffffp+1023", "0x0.0000000000001p-1022", "-0x0.0p+0", "1/3", "1/0",
    "-7/2", "9" * 4000, "1/" + "9" * 4000, "0x1.8p+5000", "nan", "٣",
    [], [[]], [0], {}, {"a": 1}, ["relu", 2, 0], ["anew", 2, 0], ["box", 0, "0x0.0p+0"], ["cut", 1, "0x1.0p-3"],
    [[0, ["0x1.0p+0"], []]], [[1, ["0x1.fffffffffffffp+1023"], ["slopes", 0]]], ["rows", 0], "slopes", "linf",
]  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def parent_of(value: Any, path: tuple[Any, ...]) -> Any:
    """What holds the place at the end of a path."""
    for key in path[:-1]:
        value = value[key]
    return value


def contents(data: bytes) -> dict[str, bytes]:
    """The manifest and the files of the arrays, decompressed."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        out = {name: archive.read(name) for name in archive.namelist()}
    if "multipliers.npz" in out:
        with zipfile.ZipFile(io.BytesIO(out.pop("multipliers.npz"))) as inner:
            out |= {name: inner.read(name) for name in inner.namelist()}
    return out


def flipped(data: bytes, every: int = 1) -> Iterator[tuple[int, bytes]]:
    """Each file that differs in one bit, and the bit's place; or only one in ``every``."""
    for bit in range(every // 2, 8 * len(data), every):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        yield bit, bytes(changed)


def flipped_inside(data: bytes, every: int = 1) -> Iterator[bytes]:
    """Each certificate whose manifest, array or archive of arrays differs in one bit, with the right checksums."""
    files = contents(data)
    for name, content in files.items():
        for _, changed in flipped(content, every):
            yield archived(files | {name: changed})
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        whole = {name: archive.read(name) for name in archive.namelist()}
    for _, changed in flipped(whole.get("multipliers.npz", b""), every):
        yield _zipped(whole | {"multipliers.npz": changed})


def archived(files: dict[str, bytes]) -> bytes:
    """The certificate of a manifest and files of arrays, as `contents` gives them."""
    arrays = {name: content for name, content in files.items() if name != "manifest.json"}
    packed = {"manifest.json": files["manifest.json"]}
    return _zipped(packed | ({"multipliers.npz": _zipped(arrays)} if arrays else {}))


def _zipped(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return out.getvalue()


def rearranged(data: bytes, every: int = 1) -> Iterator[bytes]:
    """Certificates in which one part is missing, doubled, swapped with its neighbour or replaced."""
    manifest, arrays = unpack(data)
    edits = itertools.product(places(manifest), (_drop, _double, _swap, *(_Put(value) for value in POOL)))
    for path, edit in itertools.islice(edits, every // 2, None, every):
        changed = copy.deepcopy(manifest)
        if edit(parent_of(changed, path), path[-1]):
            yield pack(changed, arrays)
    for changed_arrays in itertools.islice(_other_arrays(arrays), every // 2, None, every):
        yield pack(manifest, changed_arrays)


def _other_arrays(arrays: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
    for name, array in arrays.items():
        others = [np.flip(array, axis) for axis in range(array.ndim)]
        others += [array[:0], array[..., :0], array.T, array.reshape(-1), np.concatenate([array] * 2, -1)]
        others += [-array, array + array.dtype.type(1), array.astype(np.int64), array.astype(np.float64)]
        for other in others:
            yield arrays | {name: other}
        yield {key: value for key, value in arrays.items() if key != name}
        for key, other in arrays.items():
            yield arrays | {key: array, name: other}


def _drop(holder: Any, key: Any) -> bool:
    del holder[key]
    return True


def _double(holder: Any, key: Any) -> bool:
    if isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    return isinstance(holder, list)


def _swap(holder: Any, key: Any) -> bool:
    able = isinstance(holder, list) and key + 1 < len(holder) and holder[key] != holder[key + 1]
    if able:
        holder[key], holder[key + 1] = holder[key + 1], holder[key]
    return able


class _Put:
    def __init__(self, value: Any) -> None:
        self._value = value

    def __call__(self, holder: Any, key: Any) -> bool:
        holder[key] = copy.deepcopy(self._value)
        return True


def strangers(data: bytes) -> Iterator[bytes]:
    """Certificates in which one JSON object has one member more."""
    manifest, arrays = unpack(data)
    for path in [(), *places(manifest)]:
        changed = copy.deepcopy([manifest])
        where = parent_of(changed, (0, *path, None))
        if isinstance(where, dict):
            where["note"] = "holds for every input"
            yield pack(changed[0], arrays)


def silent(data: bytes) -> set[int]:
    """Bytes of the file that no reader of zip archives takes for its content: who made it, and attributes."""
    out: set[int] = set()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        at = archive.start_dir
        for entry in archive.infolist():
            out |= {at + 4, at + 5, *range(at + 36, at + 42)}
            at += 46 + len(entry.filename)
    return out
