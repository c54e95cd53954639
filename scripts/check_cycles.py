"""Finds source files of a Rust crate that import from each other in a circle.

    check_cycles.py FOLDER

FOLDER has the crate's lib.rs. Prints each cycle, and ends with 1 if there is one.

A file imports from another one if a path in it, of a `use` or of an expression, leads to an item
that is defined there. A re-export is followed to the definition; by itself it is no import. Tests
do not count. This reads formatted text (rustfmt): macros are not expanded.
"""

import re
import sys
from collections import deque
from pathlib import Path

TEST = r"^#\[cfg\(test\)\]\n(?:pub(?:\([^)]*\))? )?mod (\w+)"
ITEM = (
    r"^(?:pub(?:\([^)]*\))? )?(?:(?:const|unsafe|async) )*"
    r"(?:struct|enum|union|trait|fn|const|static|type|mod|macro_rules!) (\w+)"
)
USE = r"^[ ]*(pub(?:\([^)]*\))? )?use ([^;]+);"


def imports(tree: str) -> list[tuple[list[str], str]]:
    """The paths of the tree behind a `use`, each with the name that it is bound to."""
    head, brace, rest = tree.strip().partition("{")
    if not brace:
        path, _, alias = head.partition(" as ")
        parts = path.removesuffix("::self").split("::")
        return [(parts, alias or parts[-1])]
    branches, depth = [""], 0
    for character in rest.rstrip().removesuffix("}"):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            branches.append("")
        else:
            branches[-1] += character
    return [found for branch in branches if branch.strip() for found in imports(head + branch.strip())]


class File:
    """What one file defines and names; paths are tuples without `crate`."""

    def __init__(self, module: tuple[str, ...], text: str):
        text = re.sub(r"//.*", "", text)
        self.tests = set(re.findall(TEST, text, re.M))
        text = re.sub(TEST + ";", "", text, flags=re.M)
        text = re.split(TEST + r" \{", text, flags=re.M)[0]
        self.module = module
        self.items = set(re.findall(ITEM, text, re.M))
        self.bound = {name: (*module, name) for name in re.findall(r"\bmod (\w+);", text)}
        self.paths = set()
        body = re.sub(r"\bmod \w+;", "", re.sub(USE, "", text, flags=re.M))
        for public, tree in re.findall(USE, text, re.M):
            for parts, name in imports(tree):
                path = self.absolute(parts)
                self.bound.setdefault(name, path)
                # neither a field nor a method of that name
                if not public or re.search(rf"(?<![.\w]){name}\b(?!:[^:])", body):
                    self.paths.add(path)
        for path in re.findall(r"(?<![:\w])\w+(?:::\w+)+", body):
            self.paths.add(self.absolute(path.split("::")))

    def absolute(self, parts: list[str]) -> tuple[str, ...]:
        """The path from the crate on; of another crate's, nothing."""
        base = self.module if parts[0] in ("self", "super") else ()
        if parts[0] not in ("crate", "self", "super"):
            known = self.bound.get(parts[0])
            return (*known, *parts[1:]) if known else ()
        for part in parts:
            base = base[:-1] if part == "super" else base if part in ("crate", "self") else (*base, part)
        return base


def owner(files: dict, path: tuple[str, ...], depth: int = 0) -> tuple[str, ...] | None:
    """The file that defines what `path` leads to; none for a module itself."""
    module = next((path[:n] for n in range(len(path), 0, -1) if path[:n] in files), path)
    if module == path:
        return None
    name, rest = path[len(module)], path[len(module) + 1 :]
    # through a re-export; the depth is for one that leads to itself
    elsewhere = None if name in files[module].items or depth == 8 else files[module].bound.get(name)
    return owner(files, (*elsewhere, *rest), depth + 1) or module if elsewhere else module


def cycles(sources: dict[str, str]) -> list[str]:
    """The cycles between files. `sources` are their texts by path."""
    files = {}
    for name, text in sources.items():
        module = tuple(name.removesuffix(".rs").removesuffix("/mod").split("/"))
        files[module] = File(module, text)
    for module, file in list(files.items()):
        tests = {(*module, name) for name in file.tests}
        files = {name: file for name, file in files.items() if name[: len(module) + 1] not in tests}

    def imported(module: tuple[str, ...]) -> set[tuple[str, ...]]:
        return {owner(files, path) for path in files[module].paths} - {module, None}

    return shortest({module: imported(module) for module in files})


def shortest(graph: dict) -> list[str]:
    """The shortest cycle through each node that is in one."""
    found = {}
    for start in sorted(graph):
        waiting, before = deque([start]), {}
        while waiting and start not in before:
            here = waiting.popleft()
            for other in sorted(graph[here] - before.keys()):
                before[other] = here
                waiting.append(other)
        if start in before:
            cycle = [start, before[start]]
            while cycle[-1] != start:
                cycle.append(before[cycle[-1]])
            found.setdefault(frozenset(cycle), " -> ".join("::".join(node) for node in reversed(cycle)))
    return list(found.values())


MADE_UP = {
    "lib.rs": "pub mod good;\npub mod parent;\npub mod ring;\n",
    "good.rs": "mod part;\npub use part::Part;\nstruct Good;\n#[cfg(test)]\nmod tests {\n    use part::P;\n}\n",
    "good/part.rs": "use super::Good; // use crate::parent::N;\npub struct Part;\n",
    "parent.rs": "mod part;\nconst N: u8 = 1;\nfn f() {\n    part::g(N)\n}\n",
    "parent/part.rs": "use super::N;\npub fn g(_: u8) {}\n",
    "ring/mod.rs": "mod one;\nmod three;\nmod two;\npub use one::One as First;\n#[cfg(test)]\nmod tests;\n",
    "ring/one.rs": "use super::{\n    three,\n    two::{self, Two},\n};\nstruct One(two::Two, std::fmt::Error);\n",
    "ring/three.rs": "pub fn f() -> crate::ring::First {}\n",
    "ring/two.rs": "pub struct Two;\nfn f() {\n    super::three::f()\n}\n",
    "ring/tests.rs": "use super::one::One;\n",
}
EXPECTED = ["parent -> parent::part -> parent", "ring::one -> ring::two -> ring::three -> ring::one"]


def main() -> None:
    if cycles(MADE_UP) != EXPECTED:
        raise SystemExit(f"check_cycles.py is wrong about a tree made up to test it: {cycles(MADE_UP)}")
    root = Path(sys.argv[1])
    sources = {path.relative_to(root).as_posix(): path.read_text() for path in sorted(root.rglob("*.rs"))}
    if "lib.rs" not in sources:
        raise SystemExit(f"{root} has no lib.rs")
    found = cycles(sources)
    for cycle in found:
        print(f"import cycle: {cycle}")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
