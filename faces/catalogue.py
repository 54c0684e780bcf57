"""What each head or encoder declares, read from its file without running it.

Pages list heads and draw their sliders, and the trainer checks a wish, long before anything
computes. Importing the classes would load torch (seconds, 220 MB), so the declarations (plain
class attributes made of literals and knobs) are read from the source instead. A test holds that
they equal the attributes of the imported classes.
"""

import ast
import importlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from faces import knobs

DECLARATIONS = (
    "family",
    "title",
    "born",
    "source",
    "formula",
    "knobs",
    "notice",
    "pretrained",
    "smallest",
    "fixed",
    "at_angle",
    "likeness",
    "spares",
    "adds",
    "fits",
    "note",
    "drawn",
    "undrawn",
    "simplex",
)  # what is read; the rest is the class's own
WORDS = {"math": math, **vars(knobs)}  # what a declaration may use


@dataclass(frozen=True)
class Catalogue(Mapping[str, Any]):
    """The classes of one package that declare `born`, oldest first. `catalogue[name]` imports the class."""

    package: str
    declared: dict[str, SimpleNamespace]

    def __getitem__(self, name: str) -> Any:
        return getattr(importlib.import_module(self.declared[name].module), name)

    def __contains__(self, name: object) -> bool:  # Mapping's own would import the class to find out
        return name in self.declared

    def __iter__(self) -> Iterator[str]:
        return iter(self.declared)

    def __len__(self) -> int:
        return len(self.declared)

    def about(self, name: str) -> SimpleNamespace:
        """The declarations of one class, without importing it. Unknown name: ValueError."""
        if name not in self.declared:
            kind = self.package.rsplit(".", 1)[-1].removesuffix("s")
            raise ValueError(f"Unknown {kind} {name!r}. There are: {', '.join(self.declared)}.")
        return self.declared[name]


def catalogue(package: str, folder: Path) -> Catalogue:
    """Read every file of a package folder for classes that declare when they were `born`."""
    found = [
        about
        for file in sorted(folder.glob("[!_]*.py"))
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef) and hasattr(about := _declarations(node, f"{package}.{file.stem}"), "born")
    ]
    return Catalogue(package, {about.name: about for about in sorted(found, key=lambda about: about.born)})


def _declarations(node: ast.ClassDef, module: str) -> SimpleNamespace:
    doc = (ast.get_docstring(node) or "").split("\n")[0]
    about = SimpleNamespace(name=node.name, module=module, doc=doc)
    for line in node.body:
        if isinstance(line, ast.Assign):
            for target in line.targets:
                names = [ast.unparse(name) for name in (target.elts if isinstance(target, ast.Tuple) else [target])]
                if not set(names) <= set(DECLARATIONS):
                    continue
                value = eval(compile(ast.Expression(line.value), module, "eval"), dict(WORDS))  # our own source
                vars(about).update(zip(names, value if len(names) > 1 else [value], strict=True))
    return about
