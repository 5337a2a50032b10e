"""A mixer's state inside a manifest: plain values as JSON, arrays beyond 64 KiB beside it in `state.npz`."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from prereq.graph.canonical import sha256_hex

LARGE_BYTES = 64 * 1024
FILE = "state.npz"


def encode_state(name: str, state: Mapping[str, Any], *, write_arrays: bool) -> tuple[dict[str, Any], bytes | None]:
    """The `mixer` entry of a manifest and the bytes of `state.npz`, if it needs one.

    Args:
        name: The mixer.
        state: Str, int, float, None, lists, dicts and numpy arrays.
        write_arrays: Whether this round carries large arrays (one in every `state_every` does); without it they are
            left out here, and a restart rebuilds them from the feedback.

    Returns:
        `{name, state}` or `{name, state, arrays: {path, sha256}}`; a large array is `{"npz": key}` in the state.
    """
    arrays: dict[str, np.ndarray] = {}
    plain = _plain(state, "", arrays)
    if not arrays or not write_arrays:
        return {"name": name, "state": plain}, None
    sink = io.BytesIO()
    np.savez(sink, allow_pickle=False, **arrays)  # members carry a fixed date: equal arrays give equal bytes
    data = sink.getvalue()
    return {"name": name, "state": plain, "arrays": {"path": FILE, "sha256": sha256_hex(data)}}, data


def _plain(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, np.ndarray):
        if value.nbytes > LARGE_BYTES:
            arrays[path] = value
            return {"npz": path}
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item, f"{path}.{key}" if path else str(key), arrays) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}.{index}", arrays) for index, item in enumerate(value)]
    return value
