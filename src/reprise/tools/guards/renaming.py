"""Renaming that replaces nothing: the system can do it at once, and Python has no name for it."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


def rename_new(old: str, new: str, from_folder: int, to_folder: int) -> None:
    """Rename a file or folder, both names in folders that are open; raises ``FileExistsError`` where ``new`` is taken.

    Where the system or the file system cannot do both at once, the name is reserved first, by something empty, and that is
    replaced: others may see it empty for a moment.
    """
    call = _in_one_step()
    if call is not None:
        if call(from_folder, os.fsencode(old), to_folder, os.fsencode(new)) == 0:
            return
        import ctypes  # noqa: PLC0415 - loaded by _in_one_step

        if (code := ctypes.get_errno()) not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code), new)
    reserve(old, new, from_folder, to_folder)


def reserve(old: str, new: str, from_folder: int, to_folder: int) -> None:
    """Take the new name by something empty, then rename over that."""
    is_folder = stat.S_ISDIR(os.stat(old, dir_fd=from_folder, follow_symlinks=False).st_mode)
    if is_folder:
        os.mkdir(new, dir_fd=to_folder)
    else:
        os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, dir_fd=to_folder))
    try:
        os.rename(old, new, src_dir_fd=from_folder, dst_dir_fd=to_folder)
    except OSError:
        (os.rmdir if is_folder else os.unlink)(new, dir_fd=to_folder)
        raise


@cache
def _in_one_step() -> Callable[[int, bytes, int, bytes], int] | None:
    """Return the system's call, None = it has none."""
    import ctypes  # noqa: PLC0415 - only where something is renamed

    name, flag = ("renameatx_np", 4) if sys.platform == "darwin" else ("renameat2", 1)
    try:
        function: Any = getattr(ctypes.CDLL(None, use_errno=True), name)
    except (AttributeError, OSError):
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    return lambda from_folder, old, to_folder, new: function(from_folder, old, to_folder, new, flag)
