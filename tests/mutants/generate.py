# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Finds expressions that can be changed, and writes sources in which each change can be chosen at run time.

`a < b` becomes `(::viommu::mutant(17) ? (a <= b) : (a < b))`, a statement `if (!::viommu::mutant(18)) statement;`. Both
arms have one type, so that what stands around them compiles as before. What the compiler works out itself is not
changed: constants, template arguments, static_assert, case labels, array bounds.

A change's name is its file and a hash of function, operator, text and replacement: no line number, so that it outlives
edits elsewhere. A hash also decides which of all changes are taken: the same ones each time, whatever else is added.
"""

import hashlib
import inspect
import json
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

CLANG = "/usr/lib/llvm-19/lib/libclang-19.so.1"
FOLDERS = ("caches", "walkers", "engine/vtd", "engine/virtio_iommu", "engine/virtqueue", "engine/consumer",
           "engine/core")
# Not built for the machine that this runs on.
LEFT_OUT = ("walkers/simd/neon.cpp",)
COPIED = ("CMakeLists.txt", "LICENSE", "caches", "engine", "fuzz", "tests", "walkers")
# Not of the library's behaviour, or of threads that race (the harness has those).
WITHOUT = re.compile(r"tests/(stress|trace)/.*_test\.cpp|tests/(layering|docs)_test\.cpp|"
                     r"tests/mutants/(mutant\.|generate|run|rev).*")
FLAGS = ["-x", "c++", "-std=c++20", "-DNDEBUG", "-DVIOMMU_TRACEPOINTS", "-w", "-I.", "-Iengine/include",
         "-Ibuild/mutants/shown", "-mavx2", "-mavx512f", "-mavx512cd", "-mavx512dq", "-mavx512bw", "-mavx512vl"]

# Of ten thousand changes of one kind, how many are taken. Those that nearly any test notices are the least interesting.
SHARES = {"comparison": 390, "equality": 180, "logic": 240, "arithmetic": 285, "bits": 255, "shift": 195,
          "literal": 195, "not": 90, "statement": 135, "check": 135, "truth": 165, "choice": 150, "extreme": 450,
          "assignment": 225}
AT_LEAST = 2  # of each file

SWAPS = {
    "<": ("comparison", "<="), "<=": ("comparison", "<"), ">": ("comparison", ">="), ">=": ("comparison", ">"),
    "==": ("equality", "!="), "!=": ("equality", "=="), "&&": ("logic", "||"), "||": ("logic", "&&"),
    "+": ("arithmetic", "-"), "-": ("arithmetic", "+"), "*": ("arithmetic", "+"), "/": ("arithmetic", "*"),
    "%": ("arithmetic", "/"), "&": ("bits", "|"), "|": ("bits", "&"), "^": ("bits", "|"), "<<": ("shift", ">>"),
    ">>": ("shift", "<<"), "+=": ("assignment", "-="), "-=": ("assignment", "+="), "|=": ("assignment", "&="),
    "&=": ("assignment", "|="),
}
FUNCTIONS = ("FUNCTION_DECL", "CXX_METHOD", "CONSTRUCTOR", "DESTRUCTOR", "FUNCTION_TEMPLATE", "CONVERSION_FUNCTION")
STATEMENTS = ("CALL_EXPR", "BINARY_OPERATOR", "COMPOUND_ASSIGNMENT_OPERATOR", "UNARY_OPERATOR", "UNEXPOSED_EXPR",
              "CONTINUE_STMT")
# Orders of atomic operations are the harness's business; the other two do nothing that a value depends on.
NOT_DROPPED = re.compile(r"memory_order|fence|spin_pause|^(static_cast<void>|\w+\.unlock\()")
LONGEST = 600  # bytes of an expression that is changed: it is written twice


class Finder:
    """The changes of one file."""

    def __init__(self, path, text):
        self.path = path
        self.text = text
        self.found = {}  # (first, last + 1, "expression" or "statement") -> list of changes
        self.operators = set()  # places of those seen: a compiler writes one expression down in more ways than one

    def slice(self, first, last):
        return self.text[first:last].decode()

    def declaration(self, cursor, names):
        if cursor.kind.name in FUNCTIONS:
            self.function(cursor, names + [cursor.spelling.split("<")[0]])
        elif cursor.kind.is_declaration():
            for child in cursor.get_children():
                self.declaration(child, names + [cursor.spelling] if cursor.spelling else names)

    def function(self, cursor, names):
        children = list(cursor.get_children())
        if not children or children[-1].kind.name != "COMPOUND_STMT":
            return
        body = children[-1]
        head = self.slice(cursor.extent.start.offset, body.extent.start.offset)
        if re.search(r"\bconsteval\b", head):
            return
        self.names = "::".join(names)
        if cursor.kind.name == "CONSTRUCTOR":
            for child in children[:-1]:
                if child.kind.is_expression():
                    self.visit(child, cursor)
        self.visit(body, cursor)

    def add(self, first, last, form, operator, shown, pieces):
        """`pieces`: the changed text, strings and (first, last + 1) of what stays as it is."""
        if last - first > LONGEST:
            return
        self.found.setdefault((first, last, form), []).append(
            {"function": self.names, "operator": operator, "was": self.slice(first, last), "shown": shown,
             "pieces": pieces})

    def visit(self, cursor, parent):
        kind = cursor.kind.name
        first, last = cursor.extent.start.offset, cursor.extent.end.offset
        children = list(cursor.get_children())
        if kind in ("STATIC_ASSERT", "TYPE_REF", "TEMPLATE_REF", "NAMESPACE_REF", "DECL_REF_EXPR", "USING_DECLARATION",
                    "SIZE_OF_PACK_EXPR", "CXX_UNARY_EXPR", "TYPE_ALIAS_DECL", "PARM_DECL"):
            return
        if kind == "DECL_STMT" and re.match(r"(static )?constexpr\b", self.slice(first, last)):
            return
        if kind == "VAR_DECL":  # what stands before the name belongs to the type
            children = [child for child in children if child.extent.start.offset >= cursor.location.offset]
        if kind == "MEMBER_REF_EXPR":
            children = [child for child in children if child.extent.start.offset < cursor.location.offset]
        if kind == "CASE_STMT":
            children = children[1:]
        if kind == "IF_STMT":
            children = self.if_statement(first, children)
        if kind == "COMPOUND_STMT":
            for child in children:
                self.statement(child)
        elif kind in ("FOR_STMT", "WHILE_STMT", "CXX_FOR_RANGE_STMT") and children:
            self.statement(children[-1])
        if kind == "BINARY_OPERATOR" or kind == "COMPOUND_ASSIGNMENT_OPERATOR":
            self.binary(children, first, last)
        elif kind == "CALL_EXPR":
            self.call(cursor, children, first, last)
        elif kind == "UNARY_OPERATOR":
            self.unary(children, first, last)
        elif kind == "CONDITIONAL_OPERATOR" and len(children) == 3:
            condition, yes, no = [(c.extent.start.offset, c.extent.end.offset) for c in children]
            self.add(first, last, "expression", "choice", "condition turned round",
                     ["!(", condition, ") ? ", yes, " : ", no])
        elif kind == "INTEGER_LITERAL":
            self.literal(first, last, parent)
        elif kind == "CXX_BOOL_LITERAL_EXPR" and self.slice(first, last) in ("true", "false"):
            other = "false" if self.slice(first, last) == "true" else "true"
            self.add(first, last, "expression", "truth", other, [other])
        for child in children:
            self.visit(child, cursor)

    def if_statement(self, first, children):
        """What is to be looked at further: a condition that the compiler knows is not."""
        constant = re.match(r"if constexpr\b", self.slice(first, first + 20))
        open_paren = self.text.find(b"(", first)
        depth, close = 0, open_paren
        for close in range(open_paren, len(self.text)):
            depth += {40: 1, 41: -1}.get(self.text[close], 0)
            if depth == 0:
                break
        rest = []
        for child in children:
            start, end = child.extent.start.offset, child.extent.end.offset
            if start >= close:
                self.statement(child)
                rest.append(child)
            elif not constant:
                rest.append(child)
                if end == close and child.kind.is_expression():
                    self.add(start, end, "expression", "check", "false", ["false"])
        return rest

    def statement(self, child):
        kind = child.kind.name
        if kind not in STATEMENTS:
            return
        first, last = child.extent.start.offset, child.extent.end.offset
        shown = self.slice(first, last)
        end = self.text.find(b";", last)
        if end < 0 or self.text[last:end].strip() or NOT_DROPPED.search(shown):
            return
        if kind == "UNARY_OPERATOR" and not re.match(r"\+\+|--", shown) and not re.search(r"(\+\+|--)$", shown):
            return
        self.add(first, end + 1, "statement", "statement", "dropped", [])

    def binary(self, children, first, last):
        if len(children) != 2:
            return
        left, right = children[0].extent.end.offset, children[1].extent.start.offset
        if left > right:
            return
        gap = self.slice(left, right)
        operator = gap.strip()
        start = left + gap.index(operator) if operator else left
        self.operator(operator, first, start, last)

    def call(self, cursor, children, first, last):
        if cursor.spelling.startswith("operator"):
            for child in children:
                at, end = child.extent.start.offset, child.extent.end.offset
                if child.spelling.startswith("operator") and first < at and end < last:
                    self.operator(self.slice(at, end), first, at, last)
                    return
            return
        shown = self.slice(first, last)
        for name, other in (("std::min", "std::max"), ("std::max", "std::min")):
            if re.match(name + r"[(<]", shown):
                self.add(first, last, "expression", "extreme", other, [other, (first + len(name), last)])

    def operator(self, operator, first, at, last):
        if operator not in SWAPS or at in self.operators or not first < at < last:
            return
        self.operators.add(at)
        left, right = (first, at), (at + len(operator), last)
        kind, other = SWAPS[operator]
        self.add(first, last, "expression", kind, other, [left, other, right])
        if operator in ("&&", "||"):
            self.add(first, last, "expression", kind, "left side alone", ["static_cast<bool>(", left, ")"])
            self.add(first, last, "expression", kind, "right side alone", ["static_cast<bool>(", right, ")"])
        if operator in ("+", "-") and self.slice(*right).strip() in ("1", "1U", "1u"):
            self.add(first, last, "expression", kind, "without the 1", [left])
        if operator in ("<", ">", "<=", ">="):
            flipped = {"<": ">=", ">": "<=", "<=": ">", ">=": "<"}[operator]
            self.add(first, last, "expression", kind, flipped, [left, flipped, right])

    def unary(self, children, first, last):
        if len(children) != 1 or self.text[first:first + 1] not in (b"!", b"~"):
            return
        inner = (children[0].extent.start.offset, children[0].extent.end.offset)
        if inner[0] <= first:
            return
        if self.text[first:first + 1] == b"!":
            self.add(first, last, "expression", "not", "without !", ["static_cast<bool>(", inner, ")"])
        else:
            self.add(first, last, "expression", "bits", "without ~", [inner])

    def literal(self, first, last, parent):
        shown = self.slice(first, last)
        before, behind = self.text[:first].rstrip()[-1:], self.text[last:last + 1]
        # In braces another value could be a narrowing; before > it is a template argument.
        if parent.kind.name == "INIT_LIST_EXPR" or before == b"{" or before == b"<" or behind == b">":
            return
        if not re.fullmatch(r"(0x[0-9A-Fa-f']+|[0-9']+)([uU]|[uU]?[lL]{1,2}|[uU][lL]{1,2})?", shown):
            return
        if shown.startswith("0x"):
            self.add(first, last, "expression", "literal", shown + " ^ 1", [shown + " ^ 1"])
            return
        self.add(first, last, "expression", "literal", shown + " + 1", [shown + " + 1"])
        if not re.match(r"0+\D*$", shown):
            self.add(first, last, "expression", "literal", shown + " - 1", [shown + " - 1"])


def named(path, found):
    """Each change with its name, in the order of the file."""
    seen, changes = {}, []
    for (first, last, form), there in sorted(found.items(), key=lambda item: (item[0][0], -item[0][1], item[0][2])):
        for change in there:
            words = "\0".join([path, change["function"], change["operator"], " ".join(change["was"].split()),
                               change["shown"]])
            count = seen[words] = seen.get(words, -1) + 1
            digest = hashlib.sha256(f"{words}\0{count}".encode()).hexdigest()
            rank = int(digest[8:16], 16) % 100000 / 10  # of ten thousand
            changes.append(dict(change, name=f"{path} {digest[:8]}", rank=rank, first=first, last=last, form=form))
    return changes


def chosen(changes, refused):
    changes = [change for change in changes if change["name"] not in refused]
    taken = [change for change in changes if change["rank"] < SHARES[change["operator"]]]
    if len(taken) < AT_LEAST:
        taken = sorted(changes, key=lambda change: change["rank"])[:AT_LEAST]
    return sorted(taken, key=lambda change: (change["first"], -change["last"]))


def written(text, changes, number_of):
    """The file with all `changes` in it."""
    nodes = {}
    for change in changes:
        nodes.setdefault((change["first"], change["last"], change["form"]), []).append(change)
    # Outer ones first; of one place the statement holds the expression.
    order = sorted(nodes, key=lambda node: (node[0], -node[1], node[2] != "statement"))

    def render(first, last, without=()):
        out, at = [], first
        for node in order:
            if at <= node[0] and node[1] <= last and node not in without:
                out += [text[at:node[0]].decode(), one(node, without)]
                at = node[1]
        return "".join([*out, text[at:last].decode()])

    def one(node, without):
        inner = without + (node,)
        result = render(node[0], node[1], inner)
        if node[2] == "statement":
            return f"{{ if (!::viommu::mutant({number_of[nodes[node][0]['name']]})) {result} }}"
        for change in reversed(nodes[node]):
            other = "".join(piece if isinstance(piece, str) else render(*piece, inner) for piece in change["pieces"])
            result = f"::viommu::mutant({number_of[change['name']]}) ? ({other}) : ({result})"
        return f"({result})"

    first_line = text.index(b"\n") + 1
    return (text[:first_line].decode() + '#include "engine/base/mutant.hpp"\n#line 2\n' + render(first_line, len(text)))


def clang_index():
    try:
        from clang import cindex
    except ImportError:
        sys.exit("generate.py: no libclang for this Python (Debian 12: python3-clang-19, /usr/bin/python3)")
    if not cindex.Config.loaded:
        cindex.Config.set_library_file(CLANG)
    return cindex.Index.create(excludeDecls=True)


def own_path(name):
    """As the project names it."""
    return os.path.relpath(name) if os.path.isabs(name) else os.path.normpath(name)


def errors_of(unit):
    """[(text, [(path, line)...])] of what does not compile."""
    errors = []
    for problem in unit.diagnostics:
        if problem.severity >= 3:
            places = [d.location for d in [problem, *problem.children] if d.location.file]
            errors.append((str(problem), [(own_path(place.file.name), place.line) for place in places]))
    return errors


def accepted(texts, changes, parse):
    """The names of those changes that do not compile, and what stays wrong without them. `parse` takes the contents."""
    refused = []
    while True:
        taken = {path: chosen(changes[path], refused) for path in texts}
        numbers = {c["name"]: i + 1 for i, c in enumerate(c for path in texts for c in taken[path])}
        contents = {path: written(texts[path], taken[path], numbers) for path in texts if taken[path]}
        errors = errors_of(parse(contents)) if contents else []
        if not errors:
            return refused, []
        lines = {path: content.split("\n") for path, content in contents.items()}
        before = len(refused)
        for _, places in errors:
            for path, at in places:
                line = lines[path][at - 1] if path in lines else ""
                near = [c["name"] for c in taken.get(path, ()) if f"mutant({numbers[c['name']]})" in line]
                refused += [name for name in near if name not in refused]
                if near:
                    break
        if len(refused) == before:
            return refused, [error for error, _ in errors]


def kept(file, words, work):
    """What `work` returns, from `file` while `words` are the same."""
    digest = hashlib.sha256(b"\0".join([*words, inspect.getsource(Finder).encode()])).hexdigest()
    if file.exists():
        known = json.loads(file.read_text())
        if known["digest"] == digest:
            return known
    known = dict(work(), digest=digest)
    file.write_text(json.dumps(known))
    return known


def look_at_headers(paths, every, folder):
    """All of them in one unit, whose compiled form the sources then begin with."""
    texts = {path: Path(path).read_bytes() for path in every}

    def work():
        index = clang_index()
        name = str(folder / "headers.hpp")
        everything = "".join(f'#include "{path}"\n' for path in every)

        def parse(contents):
            return index.parse(name, args=[*FLAGS, "-x", "c++-header"],
                               unsaved_files=[(name, everything), *contents.items()])

        unit = parse({})
        unit.save(str(folder / "headers.pch"))
        wrong = errors_of(unit)
        finders = {path: Finder(path, texts[path]) for path in paths}
        for child in unit.cursor.get_children():
            finder = finders.get(own_path(child.location.file.name)) if child.location.file else None
            if finder:
                finder.declaration(child, [])
        changes = {path: named(path, finders[path].found) for path in paths}
        refused, broken = accepted({path: texts[path] for path in paths}, changes, parse)
        return {"changes": changes, "refused": refused, "broken": [error for error, _ in wrong] + broken}

    return kept(folder / "headers.json", [texts[path] for path in every], work)


def look_at_source(path, folder):
    text = Path(path).read_bytes()

    def work():
        index = clang_index()

        beginning = ["-include-pch", str(folder / "headers.pch")]

        def parse(contents):
            return index.parse(path, args=[*FLAGS, *beginning],
                               unsaved_files=list(contents.items()))

        unit = parse({})
        if errors_of(unit):  # a name that is this file's own and, somewhere else, a header's too
            beginning.clear()
            unit = parse({})
        wrong = errors_of(unit)
        finder = Finder(path, text)
        for child in unit.cursor.get_children():
            if child.location.file and own_path(child.location.file.name) == path:
                finder.declaration(child, [])
        changes = {path: named(path, finder.found)}
        refused, broken = accepted({path: text}, changes, parse) if not wrong else ([], [])
        return {"changes": changes, "refused": refused, "broken": [error for error, _ in wrong] + broken}

    return kept(folder / (path.replace("/", "+") + ".json"), [text], work)


def sources(suffix):
    return [str(path) for folder in FOLDERS for path in sorted(Path(folder).rglob("*" + suffix))
            if str(path) not in LEFT_OUT]


def all_headers():
    """Of the library, lowest layer first; not the lanes of a kernel that another machine has."""
    folders = ("engine/base", "engine/trace", *FOLDERS, "engine/machine")
    return [str(path) for folder in folders for path in sorted(Path(folder).rglob("*.hpp"))]


def own_types(text):
    """Names declared outside of any class, if not all of them."""
    kind = r"(?:class|struct|enum class|using)(?: alignas\([^)]*\))?"
    return set(re.findall(rf"^{kind} (\w+)(?= = | \{{|;| :)", text, re.MULTILINE))


def taken_names(text):
    """Names of the tests' namespace that it uses as its own."""
    return set(re.findall(r"^using (?:viommu::)?test::(\w+);", text, re.MULTILINE))


def clashes(path):
    """Whether a source has or takes a name that is some header's too: it cannot begin with all headers."""
    if not path.endswith(".cpp"):
        return False
    if not clashes.names:
        clashes.names = set().union(*(own_types(Path(header).read_text()) for header in all_headers()))
    text = Path(path).read_text()
    return bool((own_types(text) | taken_names(text)) & clashes.names)


clashes.names = set()


def write_if_changed(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_bytes() != content:
        path.write_bytes(content)


def generate(out, share=1.0, only=None, jobs=2):
    """Writes the tree with the changes to `out`/source and tells them, in the order of their numbers from 1 on."""
    findings = out / "findings"
    findings.mkdir(parents=True, exist_ok=True)
    write_if_changed(out / "shown/engine/base/mutant.hpp", Path("tests/mutants/mutant.hpp").read_bytes())
    headers, units = sources(".hpp"), sources(".cpp")
    known = [look_at_headers(headers, all_headers(), findings)]
    with ProcessPoolExecutor(jobs) as pool:
        known += pool.map(look_at_source, units, [findings] * len(units))
    changes, refused, mutants, taken_of = {}, [], [], {}
    for findings_of_one in known:
        for problem in findings_of_one["broken"]:
            sys.exit(f"generate.py: {problem}")
        changes.update(findings_of_one["changes"])
        refused += findings_of_one["refused"]
    for path in sorted(changes):
        if only is None or re.search(only, path):
            taken_of[path] = chosen(changes[path], refused)
            mutants += taken_of[path]
    numbers = {change["name"]: i + 1 for i, change in enumerate(mutants)}

    there = set()
    for top in COPIED:
        for file in [Path(top)] if Path(top).is_file() else sorted(p for p in Path(top).rglob("*") if p.is_file()):
            if WITHOUT.fullmatch(str(file)):
                continue
            there.add(str(file))
            copy = out / "source" / file
            changes = taken_of.get(str(file))
            text = file.read_bytes()
            write_if_changed(copy, written(text, changes, numbers).encode() if changes else text)
            copy.chmod(file.stat().st_mode)
    for name in ("mutant.hpp", "mutant.cpp"):
        there.add(f"engine/base/{name}")
        text = Path("tests/mutants", name).read_bytes().replace(b'"tests/mutants/mutant.hpp"', b'"engine/base/mutant.hpp"')
        write_if_changed(out / "source/engine/base" / name, text)
    kernels = re.compile(r"(walkers|caches)/simd/.*|engine/trace/.*")  # have flags of their own, or are not looked at
    shared = "".join(f'#include "{path}"\n' for path in all_headers() if not kernels.fullmatch(path))
    alone = "".join(f"set(alone ${{alone}} {path})\n" for path in sorted(there - {"engine/base/mutant.cpp"})
                    if clashes(path))
    for name, content in (("headers.hpp", shared), ("headers.cpp", ""), ("alone.cmake", alone)):
        there.add(f"shared/{name}")
        write_if_changed(out / "source/shared" / name, content.encode())
    for file in [p for p in (out / "source").rglob("*") if p.is_file()]:
        if str(file.relative_to(out / "source")) not in there:
            file.unlink()
    table = []
    for change in mutants:
        path = change["name"].split(" ")[0]
        line = Path(path).read_bytes()[:change["first"]].count(b"\n") + 1
        table.append({"name": change["name"], "file": path, "line": line, "function": change["function"],
                      "operator": change["operator"], "was": " ".join(change["was"].split()), "now": change["shown"],
                      "source": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]})
    (out / "mutants.json").write_text(json.dumps({"mutants": table, "refused": refused}, indent=1))
    return table, refused


if __name__ == "__main__":
    os.chdir(Path(__file__).resolve().parents[2])
    table, refused = generate(Path("build/mutants").resolve(), only=sys.argv[1] if len(sys.argv) > 1 else None)
    for mutant in table:
        print(f"{mutant['name']}:{mutant['line']} {mutant['function']} [{mutant['operator']}] "
              f"{mutant['was']} => {mutant['now']}")
    print(len(table), "changes;", len(refused), "do not compile")
