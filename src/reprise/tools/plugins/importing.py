"""Modules made from bytes that were read before, under names of their own.

A plugin's package is called something that no installed package is, so its folder may be called as it likes. Its modules
import each other by relative imports; its other files are resources: ``importlib.resources.files(__package__)``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.resources.abc import Traversable, TraversableResources
from importlib.util import decode_source
from io import BytesIO, TextIOWrapper
from itertools import count
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from reprise.tools.plugins.folder import Folder

PREFIX = "_reprise_plugin_"
_numbers = count(1)


class Importer(MetaPathFinder, ExecutionLoader):
    """Imports the modules of one plugin; ``where`` is only what tracebacks say."""

    def __init__(self, name: str, folder: Folder, where: Path) -> None:
        self.package = f"{PREFIX}{next(_numbers)}_{name.replace('-', '_')}"
        self._files, self._where = folder.files, where

    def load(self, entry: str) -> ModuleType:
        """Import a file of the plugin and return its module; the folder's own module is imported before."""
        sys.meta_path.append(self)
        parts = entry.removesuffix(".py").split("/")
        return import_module(".".join([self.package, *(parts[:-1] if parts[-1] == "__init__" else parts)]))

    def unload(self) -> None:
        """Forget all its modules."""
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        for name in [name for name in sys.modules if self._path_of(name) is not None]:
            sys.modules.pop(name, None)

    # ---------------------------------------------------------------- what importing asks

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a module is, None where it is none of ours."""
        at = self._path_of(fullname)
        if at is None or (at and f"{at}.py" not in self._files and not self._is_folder(at)):
            return None
        # Not by spec_from_loader: it would let the folder itself be searched, before us.
        spec = ModuleSpec(
            fullname, self, origin=self.get_filename(fullname), is_package=self.is_package(fullname)
        )
        spec.has_location = True
        return spec

    def get_filename(self, fullname: str) -> str:
        """Return where the file of a module was."""
        return str(self._where / self._file_of(fullname))

    def get_source(self, fullname: str) -> str:
        """Return the text of a module, '' of a folder that has none."""
        return decode_source(self._files.get(self._file_of(fullname), b""))

    def is_package(self, fullname: str) -> bool:
        """Tell a folder from a file."""
        return self._is_folder(self._path_of(fullname) or "")

    def get_data(self, path: str) -> bytes:
        """Return the bytes of a file, for ``pkgutil.get_data``."""
        try:
            return self._files[PurePosixPath(path).relative_to(self._where).as_posix()]
        except (KeyError, ValueError):
            raise FileNotFoundError(path) from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """Return the files of a folder, for ``importlib.resources``."""
        return Resources(Part(self._files, PurePosixPath(self._path_of(fullname) or ".")))

    def _path_of(self, fullname: str) -> str | None:
        """Return the path of a module without its ending, None where it is none of ours."""
        if fullname == self.package:
            return ""
        ours = fullname.startswith(f"{self.package}.")
        return fullname.removeprefix(f"{self.package}.").replace(".", "/") if ours else None

    def _file_of(self, fullname: str) -> str:
        at = self._path_of(fullname) or ""
        if self._is_folder(at):
            return f"{at}/__init__.py".lstrip("/")
        return f"{at}.py"

    def _is_folder(self, at: str) -> bool:
        """Tell a package from a module, as Python does: a folder with a module of its own goes before a file."""
        if not at or f"{at}/__init__.py" in self._files:
            return True
        return f"{at}.py" not in self._files and any(path.startswith(f"{at}/") for path in self._files)


class Resources(TraversableResources):
    """The files of a folder as ``importlib.resources`` asks for them."""

    def __init__(self, part: Part) -> None:
        self._part = part

    def files(self) -> Traversable:
        """Return the folder."""
        return self._part


class Part(Traversable):
    """A file or folder among bytes that were read before."""

    def __init__(self, files: Any, at: PurePosixPath) -> None:
        self._files, self._at = files, at

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._at.name

    def iterdir(self) -> Iterator[Part]:
        """Return what lies in it."""
        inside = [path for path in map(PurePosixPath, self._files) if path.is_relative_to(self._at)]
        deep = len(self._at.parts)
        names = dict.fromkeys(path.parts[deep] for path in inside if len(path.parts) > deep)
        return (Part(self._files, self._at / name) for name in names)

    def is_dir(self) -> bool:
        """Tell whether something lies in it."""
        return any(True for _ in self.iterdir())

    def is_file(self) -> bool:
        """Tell whether it is a file."""
        return str(self._at) in self._files

    def joinpath(self, *descendants: Any) -> Part:
        """Return what lies below; ``..`` leads nowhere."""
        return Part(self._files, self._at.joinpath(*map(str, descendants)))

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        """Open a file to read."""
        if not self.is_file():
            raise FileNotFoundError(str(self._at))
        raw = BytesIO(self._files[str(self._at)])
        return raw if "b" in mode else TextIOWrapper(raw, *args, **kwargs)

    def read_bytes(self) -> bytes:
        """Return what is in a file."""
        return self.open("rb").read()

    def read_text(self, encoding: str | None = None) -> str:
        """Return what is in a file as text."""
        return self.open("r", encoding=encoding or "utf-8").read()
