"""Code of this project written out so that it stands alone: a class or function with all that it needs, no more.

The text is that of the source, without annotations and with the first lines of docstrings. A head is flattened: one
class with its own methods and those that it inherits, as far as training and scoring reach them, its knobs as plain
class attributes. So what a person takes away is the formula that trains here, and a new head can be taken away, too.
Nothing is imported to find out: sources are read as the catalogue reads them.
"""

import ast
import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from faces.catalogue import DECLARATIONS

ROOT = Path(__file__).parents[1]
OURS = ("faces", "trainer")
BASE = "faces.heads.base"
ENTRIES = ("forward", "loss")  # what a training asks of a head; the rest is there if these reach it
SHORTER = {  # the same values and slopes, without care for half precision and vectors of no length
    (BASE, "unit"): (
        'def unit(rows):\n    """Each vector divided by its length."""\n    return normalize(rows, dim=-1, eps=1e-6)',
        {"normalize": ("torch.nn.functional", "normalize")},
    ),
}  # fmt: skip
OUTSIDE = {  # methods that become functions of their own, in other words: their name and text
    ("faces.encoders.resnet18", "weights"): (
        "imagenet",
        'def imagenet():\n    """ImageNet\'s weights, downloaded once."""\n'
        "    from torchvision.models import ResNet18_Weights\n\n"
        "    return ResNet18_Weights.IMAGENET1K_V1.get_state_dict(progress=True, check_hash=True, weights_only=True)\n"
        "\n\n",
    ),
}
SPARED = {(BASE, "CosineHead", "loss")}  # definitions passed over for those that they specialise


@dataclass(frozen=True)
class Module:
    """A source file: its text and what its top level defines and imports."""

    name: str
    source: bytes
    nodes: Mapping[str, ast.stmt]  # functions, classes and assignments by name
    imports: Mapping[str, tuple[str, str]]  # name here -> (module, name there); a module itself has no name there

    @property
    def starts(self) -> list[int]:
        """Where each line begins, bytes."""
        found = [0]
        for line in self.source.splitlines(keepends=True):
            found.append(found[-1] + len(line))
        return found


@cache
def module(name: str) -> Module:
    """A module of this project, read."""
    path = ROOT.joinpath(*name.split("."))
    source = (path.with_suffix(".py") if path.with_suffix(".py").exists() else path / "__init__.py").read_bytes()
    nodes: dict[str, ast.stmt] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                for part in target.elts if isinstance(target, ast.Tuple) else [target]:
                    nodes[ast.unparse(part)] = node
        elif isinstance(node, ast.ImportFrom):
            imports |= {alias.asname or alias.name: (node.module or "", alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            imports |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
    return Module(name, source, nodes, imports)


@dataclass
class Written:
    """Definitions in the order in which they can be run, and the imports that they need."""

    imports: set[tuple[str, str, str]] = field(default_factory=set)  # module, name there, name here
    parts: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, where: str, name: str) -> None:
        """Write out a function, a class or a constant of a module, and before it what it needs."""
        key = (where, name)
        if key in self.parts:
            return
        self.parts[key] = ""  # it may need itself
        text, needed = SHORTER.get(key, ("", {}))
        if not text:
            here = module(where)
            node = here.nodes[name]
            text = _class(here, node) if isinstance(node, ast.ClassDef) else Text(here).of(node)
            needed = dict(here.imports)
            for other in names_in(text):
                if other in here.nodes and other != name:
                    self.add(where, other)
        self._import(text, needed)
        del self.parts[key]
        self.parts[key] = text

    def add_head(self, where: str, name: str, knobs: Mapping[str, Any]) -> None:
        """Write out a head as one class, with these knobs as its attributes."""
        chain = ancestors(where, name)
        found = Flat(chain)
        lines = [f"class {name}(nn.Module):", f'    """{first_line(chain[0][1])}"""', ""]
        fixed = found.attributes() | dict(knobs)
        lines += [f"    {knob} = {value!r}" for knob, value in fixed.items()] + [""] * bool(fixed)
        text = "\n".join(lines) + "\n" + "\n\n".join(found.methods())
        for here, _ in chain:
            for other in names_in(text):
                if other in here.nodes and other != name and (other not in here.imports):
                    self.add(here.name, other)
            self._import(text, here.imports)
        self.imports.add(("torch", "nn", "nn"))
        self.parts[(where, name)] = text

    def _import(self, text: str, known: Mapping[str, tuple[str, str]]) -> None:
        for name in names_in(text):
            if name not in known:
                continue
            where, there = known[name]
            if where.split(".")[0] in OURS:
                self.add(where, there)
            else:
                self.imports.add((where, there, name))

    def import_lines(self) -> list[str]:
        """The import statements, sorted as a linter would."""
        whole = sorted(
            f"import {where}" + f" as {here}" * (here != where) for where, there, here in self.imports if not there
        )
        parts: dict[str, set[str]] = {}
        for where, there, _ in self.imports:
            if there:
                parts.setdefault(where, set()).add(there)
        return whole + [f"from {where} import {', '.join(sorted(names))}" for where, names in sorted(parts.items())]

    def text(self) -> str:
        """All definitions, constants first."""
        constants = [part for part in self.parts.values() if not part.startswith(("def ", "class ", "@"))]
        others = [part for part in self.parts.values() if part.startswith(("def ", "class ", "@"))]
        return "\n\n\n".join(["\n".join(dict.fromkeys(constants))] * bool(constants) + others)


def names_in(text: str) -> set[str]:
    """The names that a definition takes from around it."""
    tree = ast.parse(text)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
    local = {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    local |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    return (found - local | called) - set(dir(builtins))


class Text:
    """The text of nodes of one module, plainer than it stands there. `flat` knows the methods of a flattened class."""

    def __init__(self, here: Module, flat: "Flat | None" = None, owner: int = 0):
        self.here, self.flat, self.owner = here, flat, owner
        self.starts = here.starts

    def of(self, node: ast.AST) -> str:
        """The node as text; its first line begins where it does, the others stand as deep as in the source."""
        first, *rest = (line.rstrip() for line in self.render(node).decode().split("\n"))
        return "\n".join([first.replace(" = ", "=") if first.startswith("def ") else first, *rest])

    def span(self, node: Any) -> tuple[int, int]:
        first = min([node, *getattr(node, "decorator_list", [])], key=lambda one: (one.lineno, one.col_offset))
        start = self.starts[first.lineno - 1] + first.col_offset - (first is not node)  # the @ of a decorator
        return start, self.starts[node.end_lineno - 1] + node.end_col_offset

    def render(self, node: ast.AST) -> bytes:
        start, end = self.span(node)
        if isinstance(node, ast.Call) and (new := self.call(node)):
            return new[2]
        out, at = list[bytes](), start
        for low, high, text in sorted(self.edits(node)):
            out += [self.here.source[at:low], text]
            at = high
        return b"".join([*out, self.here.source[at:end]])

    def edits(self, node: ast.AST) -> list[tuple[int, int, bytes]]:
        """What is written otherwise below a node: places and the new text, none inside another."""
        found: list[tuple[int, int, bytes]] = []
        for child in ast.iter_child_nodes(node):
            new = self.edit(node, child)
            found += self.edits(child) if new is None else [new]
        if isinstance(node, ast.FunctionDef) and node.returns:
            start = self.here.source.rindex(b"->", 0, self.span(node.returns)[0])
            found = [one for one in found if not start <= one[0] < self.span(node.returns)[1]]
            found.append((len(self.here.source[:start].rstrip()), self.span(node.returns)[1], b""))
        return found

    def edit(self, parent: ast.AST, child: Any) -> tuple[int, int, bytes] | None:
        if isinstance(child, ast.arg) and child.annotation:
            start, end = self.span(child)
            return start + len(child.arg), end, b""
        if isinstance(child, ast.AnnAssign) and child.value is not None:
            return *self.span(child), self.render(child.target) + b" = " + self.render(child.value)
        if is_docstring(parent, child):
            return self.docstring(parent, child)
        if isinstance(child, ast.If) and self.flat and self.flat.idle(child):
            return self.line(child)
        if isinstance(child, ast.Call):
            return self.call(child)
        return None

    def docstring(self, parent: Any, child: Any) -> tuple[int, int, bytes]:
        """Its first line, where it can stand alone; nothing of a method's."""
        first = child.value.value.split("\n")[0]
        if self.flat or not first.endswith("."):
            return self.line(child)
        return *self.span(child), b'"""' + first.encode() + b'"""'

    def line(self, node: ast.AST) -> tuple[int, int, bytes]:
        """The whole lines of a node, to be left out."""
        start, end = self.span(node)
        start = self.here.source.rindex(b"\n", 0, start) + 1
        end = self.here.source.index(b"\n", end) + 1
        while self.here.source[end : end + 1] == b"\n":
            end += 1
        return start, end, b""

    def call(self, node: ast.Call) -> tuple[int, int, bytes] | None:
        called = node.func
        if isinstance(called, ast.Name) and self.origin(called.id) == (BASE, "widen"):
            return *self.span(node), self.render(node.args[0])
        if isinstance(called, ast.Name) and self.origin(called.id) == (BASE, "inner"):
            one, other = (self.atom(argument) for argument in node.args)
            return *self.span(node), one + b" @ " + other + b".T"
        if not self.flat or not isinstance(called, ast.Attribute):
            return None
        if is_super(called.value):
            inside = self.flat.inherited(called.attr, self.owner)
            return *self.span(node), b"self." + inside.encode() + b"(" + self.arguments(node) + b")"
        if isinstance(called.value, ast.Name) and called.value.id == "self" and (hook := self.flat.hook(called.attr)):
            given = dict(zip(hook.parameters, node.args, strict=False))
            return *self.span(node), hook.filled({name: self.render(value) for name, value in given.items()})
        return None

    def arguments(self, node: ast.Call) -> bytes:
        return b", ".join(self.render(argument) for argument in node.args)

    def atom(self, node: ast.AST) -> bytes:
        text = self.render(node)
        return text if isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript) else b"(" + text + b")"

    def origin(self, name: str) -> tuple[str, str]:
        """Where a name of this module is defined."""
        return self.here.imports.get(name, (self.here.name, name))


@dataclass(frozen=True)
class Hook:
    """A method of a base class that only hands on, and so is written where it is called."""

    parameters: list[str]
    text: Text
    result: ast.expr

    def filled(self, given: Mapping[str, bytes]) -> bytes:
        """Its result for these arguments."""
        if isinstance(self.result, ast.Name):
            return given[self.result.id]
        assert isinstance(self.result, ast.Call)
        arguments = [given[argument.id] for argument in self.result.args if isinstance(argument, ast.Name)]
        called = self.result.func
        assert isinstance(called, ast.Attribute)
        assert self.text.flat is not None
        if inner := self.text.flat.hook(called.attr):
            return inner.filled(dict(zip(inner.parameters, arguments, strict=False)))
        return b"self." + called.attr.encode() + b"(" + b", ".join(arguments) + b")"


class Flat:
    """A class and its ancestors as one."""

    def __init__(self, chain: Sequence[tuple[Module, ast.ClassDef]]):
        self.chain = chain
        self.known: dict[str, list[int]] = {}  # places in the chain of each method's definitions, its own first
        for at, (here, node) in enumerate(chain):
            for line in node.body:
                if isinstance(line, ast.FunctionDef) and (here.name, node.name, line.name) not in SPARED:
                    self.known.setdefault(line.name, []).append(at)

    def method(self, name: str, at: int) -> ast.FunctionDef:
        return next(line for line in self.chain[at][1].body if isinstance(line, ast.FunctionDef) and line.name == name)

    def hook(self, name: str) -> Hook | None:
        """The method of this name if it is one of the base's that only hands on."""
        at = self.known.get(name, [-1])[0]
        if at < 0 or self.chain[at][0].name != BASE or name in ENTRIES:
            return None
        *rest, last = self.method(name, at).body
        if not isinstance(last, ast.Return) or any(not isinstance(one, ast.Expr) for one in rest):
            return None
        result, own = last.value, [argument.arg for argument in self.method(name, at).args.args[1:]]
        plain = isinstance(result, ast.Name) or (
            isinstance(result, ast.Call)
            and isinstance(result.func, ast.Attribute)
            and isinstance(result.func.value, ast.Name)
            and all(isinstance(argument, ast.Name) for argument in result.args)
        )
        return Hook(own, Text(self.chain[at][0], self, at), result) if plain and result is not None else None

    def idle(self, node: ast.If) -> bool:
        """Whether this is where buffers follow the batch, of a head that has none which do."""
        at = self.known.get("observe", [0])[0]
        return ast.unparse(node.test) == "self.training" and self.chain[at][0].name == BASE

    def inherited(self, name: str, owner: int) -> str:
        """What a method that another one overrides is called in the flat class."""
        at = next(place for place in self.known[name] if place > owner)
        return self._renamed(name, at)

    def attributes(self) -> dict[str, Any]:
        """Values that the classes set beside their declarations, the nearest class first."""
        found: dict[str, Any] = {}
        for _, node in reversed(self.chain):
            for line in node.body:
                if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(line.targets[0], ast.Name):
                    name = line.targets[0].id
                    if name not in (*DECLARATIONS, "scored", "balanced", "watches_own") and isinstance(
                        line.value, ast.Constant
                    ):
                        found[name] = line.value.value
        return found

    def methods(self) -> list[str]:
        """The constructor and every method that training and scoring reach, each in the order of the classes."""
        texts = {"__init__": self.constructor()}
        waiting = [(name, self.known[name][0], name) for name in ENTRIES if name in self.known]
        waiting += self.reached(texts["__init__"], set())
        while waiting:
            name, at, called = waiting.pop(0)
            if called in texts:
                continue
            here, _ = self.chain[at]
            text = Text(here, self, at).of(self.method(name, at))
            if called != name:
                text = text.replace(f"def {name}(", f"def {called}(", 1)
            texts[called] = "    " + text
            waiting += self.reached(text, set(texts))
        return list(texts.values())

    def reached(self, text: str, done: set[str]) -> list[tuple[str, int, str]]:
        """The methods that a text asks of `self` and that are not there yet."""
        tree = ast.parse(_dedented(text))
        asked = [
            node.attr for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"
        ]  # fmt: skip
        found = []
        for name in dict.fromkeys(asked):
            overridden = [(one, at) for one, places in self.known.items() for at in places[1:]]
            if name in self.known and name not in done:
                found.append((name, self.known[name][0], name))
            found += [(one, at, name) for one, at in overridden if self._renamed(one, at) == name and name not in done]
        return found

    def _renamed(self, name: str, at: int) -> str:
        return f"{self.chain[at][1].name.lower()}_{name}"

    def constructor(self) -> str:
        """What all constructors of the chain do, one after the other."""
        at = self.known["weight_shape"][0]
        shape = self.method("weight_shape", at).body[-1]
        assert isinstance(shape, ast.Return)
        assert shape.value
        text = Text(self.chain[at][0], self, at).of(shape.value).replace("self.classes", "classes")
        lines = ["super().__init__()", "self.classes = classes"]
        if text != "()":
            lines.append(f"self.weight = nn.Parameter(unit(torch.randn({text})))")
        for place in reversed(self.known.get("__init__", [])):
            if self.chain[place][0].name == BASE:
                continue
            for line in self.method("__init__", place).body:
                said = Text(self.chain[place][0], self, place).of(line)
                if not said.startswith("super().__init__(") and not is_super_init(line):
                    lines += said.replace("\n        ", "\n").split("\n")
        return "    def __init__(self, dim, classes):\n" + "\n".join(f"        {line}" for line in lines)


def ancestors(where: str, name: str) -> list[tuple[Module, ast.ClassDef]]:
    """A class of this project and those that it is built on, itself first."""
    here = module(where)
    node = here.nodes[name]
    assert isinstance(node, ast.ClassDef)
    found = [(here, node)]
    for base in map(ast.unparse, node.bases):
        place = here.imports.get(base, (where, base))
        if place[0].split(".")[0] in OURS and base in module(place[0]).nodes:
            found += ancestors(place[0], base)
    return found


def _class(here: Module, node: ast.ClassDef) -> str:
    """A class as it stands, without its declarations."""
    text = Text(here)
    body, moved = list[str](), dict[str, tuple[str, str]]()
    for line in node.body:
        names = [ast.unparse(target) for target in line.targets] if isinstance(line, ast.Assign) else []
        split = [one.strip("() ") for name in names for one in name.split(",")]
        declared = bool(set(split) & set(DECLARATIONS))
        bare = isinstance(line, ast.AnnAssign) and not line.value
        if isinstance(line, ast.FunctionDef) and (outside := OUTSIDE.get((here.name, line.name))):
            moved[f"self.{line.name}("] = outside
        elif not (is_docstring(node, line) or declared or bare):
            body.append("    " + text.of(line))
    bases = ", ".join(map(ast.unparse, node.bases))
    head = f'class {node.name}({bases}):\n    """{first_line(node)}"""\n\n'
    whole = head + "\n\n".join(body)
    for called, (name, function) in moved.items():
        whole = function + whole.replace(called, f"{name}(")
    return whole


def is_docstring(parent: Any, child: Any) -> bool:
    """Whether this is the text that a function or class begins with."""
    inside = isinstance(parent, ast.FunctionDef | ast.ClassDef) and parent.body and parent.body[0] is child
    return bool(inside and isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant))


def is_super(node: ast.AST) -> bool:
    """Whether this is `super()`."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "super"


def is_super_init(line: ast.AST) -> bool:
    """Whether a statement calls the constructor of the class before."""
    return (
        isinstance(line, ast.Expr)
        and isinstance(line.value, ast.Call)
        and isinstance(line.value.func, ast.Attribute)
        and line.value.func.attr == "__init__"
        and is_super(line.value.func.value)
    )


def first_line(node: ast.ClassDef) -> str:
    """The first line of a class's docstring."""
    return (ast.get_docstring(node) or "").split("\n")[0]


def _dedented(text: str) -> str:
    import textwrap

    return textwrap.dedent(text if text.startswith(" ") else "    " + text)
