#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Makes the report of a coverage build whose tests have run, and holds it against what is asked.

    tests/coverage.py FOLDER        FOLDER is build/coverage: the build, with profiles/ of the runs

Prints lines and branches by folder; report.txt (by file) and html/ (by line) go to FOLDER. Exit 1 where a folder
with an aim is below it, or a file with code was counted by nobody. engine/docs/coverage.md says what counts.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIBRARY = ("caches", "walkers", "engine")
AIM_LINES, AIM_BRANCHES = 95, 90
# What must reach the aims: each name with the folders that are counted as one.
AIMS = {
    "caches": ["caches"],
    "walkers": ["walkers"],
    "VT-d front end": ["engine/vtd"],
    "virtio-iommu front end": ["engine/virtio_iommu", "engine/virtqueue"],
}


def cpu_flags():
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    return {flag for line in text.splitlines() if line.startswith(("flags", "Features")) for flag in line.split()}


def excluded():
    """Files that are not counted: path and reason. Kernels are counted wherever the CPU can run them."""
    flags = cpu_flags()
    files = {"engine/cli/main.cpp": "main() alone, which llvm-cov takes for that of the tests"}
    if "asimd" not in flags:
        files["walkers/simd/neon.cpp"] = "for aarch64, not compiled here"
    for isa, needed in (("avx2", {"avx2"}), ("avx512", {"avx512f", "avx512cd", "avx512dq", "avx512bw", "avx512vl"})):
        if not needed <= flags:
            for folder in ("walkers", "caches"):
                files[f"{folder}/simd/{isa}.cpp"] = f"this CPU has no {isa}"
    return files


def run(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    if done.returncode != 0:
        sys.exit(f"{command[0]} {command[1]} failed")
    return done.stdout


def sources():
    return sorted(str(path.relative_to(ROOT)) for folder in LIBRARY for path in (ROOT / folder).rglob("*")
                  if path.suffix in (".cpp", ".hpp", ".h"))


def objects(folder):
    """Every object of the library, not only what a test links: one that nobody needs is counted too."""
    layers = tuple(f"{ROOT}/{layer}/" for layer in LIBRARY)
    compiled = [str(folder / re.search(r" -o (\S+)", command["command"])[1])
                for command in json.loads((folder / "compile_commands.json").read_text())
                if command["file"].startswith(layers)]
    return [str(folder / "tests/viommu_tests"), *compiled]  # the first has the templates that tests instantiate


Count = collections.namedtuple("Count", "lines lines_covered branches branches_covered")


def total(counts):
    return Count(*(sum(values) for values in zip(Count(0, 0, 0, 0), *counts)))


def percent(part, whole):
    return 100 * part / whole if whole else 100


def row(name, count, note=""):
    return (f"{name:<26}{count.lines:>7}{percent(count.lines_covered, count.lines):>8.2f} %"
            f"{count.branches:>9}{percent(count.branches_covered, count.branches):>8.2f} %  {note}").rstrip()


def folder_of(file):
    parts = file.split("/")
    return "/".join(parts[:2]) if parts[0] == "engine" else parts[0]


def has_code(file):
    """Whether a function body stands in it."""
    text = (ROOT / file).read_text()
    text = re.sub(r'//[^\n]*|/\*.*?\*/|"(\\.|[^"\\])*"', "", text, flags=re.S)
    text = re.sub(r"^\s*#.*$|\brequires\s*\([^)]*\)\s*\{", "", text, flags=re.M)
    return re.search(r"\)[^;{}()]*\{", text) is not None


def read_counts(data):
    """By file."""
    counts = {}
    for file in data["files"]:
        lines, branches = file["summary"]["lines"], file["summary"]["branches"]
        name = str(pathlib.Path(file["filename"]).resolve().relative_to(ROOT))
        counts[name] = Count(lines["count"], lines["covered"], branches["count"], branches["covered"])
    return counts


def print_table(counts, left_out):
    """True where every aim is reached."""
    by_folder = collections.defaultdict(list)
    for file, count in counts.items():
        by_folder[folder_of(file)].append(count)
    print(f"{'':<26}{'lines':>7}{'':>10}{'branches':>9}")
    for name in sorted(by_folder):
        print(row(name, total(by_folder[name])))
    print(row("all", total(counts.values())))
    print(f"\naims: {AIM_LINES} % of lines, {AIM_BRANCHES} % of branches")
    reached = True
    for name, folders in AIMS.items():
        count = total([one for folder in folders for one in by_folder[folder]])
        enough = (percent(count.lines_covered, count.lines) >= AIM_LINES and
                  percent(count.branches_covered, count.branches) >= AIM_BRANCHES)
        print(row(name, count, "" if enough else "BELOW"))
        reached = reached and enough
    for file, reason in left_out.items():
        print(f"not counted: {file}: {reason}")
    return reached


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    profile = folder / "all.profdata"
    raw = sorted(map(str, (folder / "profiles").glob("*.profraw")))
    if not raw:
        sys.exit(f"no profiles in {folder / 'profiles'}")
    run("llvm-profdata-19", "merge", "-sparse", "-o", str(profile), *raw)

    left_out = excluded()
    counted = [file for file in sources() if file not in left_out]
    first, *others = objects(folder)
    common = [first, *(word for other in others for word in ("-object", other)), "-instr-profile", str(profile)]
    counts = read_counts(json.loads(run("llvm-cov-19", "export", *common, "-summary-only", *counted))["data"][0])
    (folder / "report.txt").write_text(run("llvm-cov-19", "report", *common, *counted))
    run("llvm-cov-19", "show", *common, "-format=html", f"-output-dir={folder / 'html'}", "-show-branches=count",
        *counted)

    reached = print_table(counts, left_out)
    # Of a header without an instantiation, or a source file without an object, no line is in any number above.
    unseen = [file for file in counted if file not in counts and (file.endswith(".cpp") or has_code(file))]
    for file in unseen:
        print(f"NOT COUNTED: {file} is in no object of the build")
    print(f"\nby file: {folder}/report.txt, by line: {folder}/html/index.html")
    sys.exit(0 if reached and not unseen else 1)


if __name__ == "__main__":
    main()
