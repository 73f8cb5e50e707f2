#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause OR Apache-2.0
"""Runs the benchmark executables and prints one table against the aims; with --full also writes an HTML report.

    bench/report.py FOLDER [--full] [--only QUESTION]... [--html FILE] [--keep FILE | --kept FILE]

FOLDER holds the executables. --keep writes every figure as JSON (nanoseconds an item), --kept reads them back in place of
measuring.
Repetitions of all translators of an executable are shuffled; a figure is the median over them.
"""

import argparse
import collections
import html
import io
import json
import os
import re
import statistics
import subprocess
import sys
import time

# Executable, repetitions, and which of its benchmarks the short run takes.
Question = collections.namedtuple("Question", "name title repetitions headline")
QUESTIONS = [
    Question("floor", "the machine's own floors", 5, None),
    Question("iotlb_hit", "hits, one at a time", 5,
             r"iotlb_hit<(Viommu|ViommuC|QemuShape|QemuShapeCapped|Floor)>/(1024|16384|262144)/manual_time(/threads:[0-9]+)?$"),
    Question("mixed_hit", "hits, mixed page sizes", 5, r"<(Viommu|QemuShape)>"),
    Question("batch_hit", "hits in batches", 5, r"<(Viommu|QemuShape|QemuShapeCapped)>/[0-9]+/64/"),
    Question("page_walk", "walks", 5, r"<(Viommu|QemuShape|Floor)>/(128|2048)/"),
    Question("stage_walk", "walks of scalable mode", 5, r"<(Lanes|Scalar)>/2048/64/"),
    Question("table_scan", "tables read whole", 5, r"/32768/"),
    Question("replay", "consumers kept equal to tables", 3, r"/16384/"),
    Question("miss_fill", "whole misses", 5, r"<(Viommu|QemuShape)>/(128|2048)/"),
    Question("invalidate_page", "page invalidation", 5, r"<(Viommu|QemuShape)>/(1024|16384)/"),
    Question("invalidate_domain", "domain invalidation", 5, r"<(Viommu|QemuShape)>/1024/"),
    Question("queue", "a full queue with work behind it", 5,
             r"queue(_alone)?<(Serial|Parallel|Independent)>/((4|64)/(0|1000)|0)/iterations"),
    Question("strict_unmap", "strict unmaps beside a reader", 5, r"<(Viommu|QemuShape)>"),
    Question("interference", "a reader beside invalidations", 5, r"<(Viommu|QemuShape)>/[0-9]+/1024/0/"),
    Question("virtio_map", "mappings of virtio-iommu", 5,
             r"<(Viommu|ViommuCalls|GTreeMutex)>/[a-z]+/1048576/(manual_time$|iterations)"),
    Question("vhost_feed", "vhost back ends", 5,
             r"(feed<[A-Za-z]+>/(4|2048)/|translate<(Viommu|RwlockList)>/2048/manual_time(/threads:2)?$)"),
    Question("interrupt_route", "interrupts", 5, r"<(Viommu|ViommuRoute|QemuShape|Floor)>/65536/manual_time(/threads:[0-9]+)?$"),
    Question("replacement", "which entries are kept", 1, None),
    Question("memory", "memory of an entry", 3, None),
    Question("allocator", "mimalloc", 5, None),
    Question("allocator_libc", "the C library's allocator", 5, None),
]
HEADLINE_REPETITIONS = 3
COUNTERS = ("reached", "reader_ns", "hit_rate", "bytes_per_entry")
DISTURBED = 0.1  # a figure of which more than this part of the time was waited for a core is marked


class Result:
    """The repetitions of one benchmark: a dictionary of figures each."""

    def __init__(self, repetitions=(), error=""):
        self.repetitions = list(repetitions)
        self.error = error

    def counter(self, name):
        """The median over the repetitions that were left alone; over all where there is none."""
        quiet = [one for one in self.repetitions if one.get("waited", 0) <= DISTURBED]
        values = [one[name] for one in quiet or self.repetitions if name in one]
        return statistics.median(values) if values else None

    def median(self):
        return self.counter("ns")

    def disturbed(self):
        return all(one.get("waited", 0) > DISTURBED for one in self.repetitions)


def plain(name):
    """A benchmark's name without what Google Benchmark adds for its own modes."""
    return re.sub(r"/(iterations:\d+|manual_time|repeats:\d+)", "", name)


def run(folder, question, full):
    command = [os.path.join(folder, question.name), "--benchmark_format=json", "--benchmark_min_time=0.01",
               "--benchmark_enable_random_interleaving=true",
               f"--benchmark_repetitions={question.repetitions if full else HEADLINE_REPETITIONS}"]
    if not full:
        command.append(f"--benchmark_filter={question.headline}")
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    if ended.returncode != 0:
        sys.exit(f"{question.name} failed:\n{ended.stderr}")
    if not ended.stdout:
        sys.exit(f"{question.name} has no benchmark that matches {question.headline}")
    return json.loads(ended.stdout)["benchmarks"]


def collect(folder, questions, full):
    results = collections.defaultdict(Result)
    started = time.monotonic()
    for number, question in enumerate(questions, 1):
        passed = int(time.monotonic() - started)
        print(f"[{passed // 60:3d}:{passed % 60:02d}] {number} of {len(questions)}: {question.name}, {question.title}",
              flush=True)
        for row in run(folder, question, full):
            if row["run_type"] != "iteration":
                continue
            name = plain(row["name"])
            if question.name.startswith("allocator"):
                name = question.name + name.removeprefix("fill")
            result = results[name]
            if row.get("error_occurred"):
                result.error = row["error_message"]
                continue
            figures = {name: row[name] for name in ("waited",) + COUNTERS if name in row}
            result.repetitions.append({"ns": 1e9 / row["items_per_second"], **figures})
    return results


# A row of the table. `ratio` is how many times the peer's time ours is (at_least) or the other way round (at_most).
Row = collections.namedtuple("Row", "title ours peer aim kind")


def at_least(title, ours, peer, aim):
    return Row(title, ours, peer, aim, "at least")


def at_most(title, ours, peer, aim):
    return Row(title, ours, peer, aim, "at most")


def aims():
    rows = []
    for pages, alone, two in ((64, 3, 15), (1024, 3, 15), (16384, 3.5, 15), (262144, 10, 30)):
        rows.append(at_least(f"hit, {count(pages)} pages", f"iotlb_hit<Viommu>/{pages}", f"iotlb_hit<QemuShape>/{pages}",
                             alone))
        rows.append(at_least(f"hit, {count(pages)} pages, 2 threads", f"iotlb_hit<Viommu>/{pages}/threads:2",
                             f"iotlb_hit<QemuShape>/{pages}/threads:2", two))
    rows += [
        at_least("hit, 16 Ki contiguous pages", "iotlb_hit_contiguous<Viommu>/16384",
                 "iotlb_hit_contiguous<QemuShape>/16384", 3.5),
        Row("hit through the C ABI of the shared library, 1 Ki", "iotlb_hit<ViommuC>/1024", "iotlb_hit<Viommu>/1024", 1.0,
            "more ns"),
        at_most("hit, 16 Ki pages", "iotlb_hit<Viommu>/16384", "iotlb_hit<Floor>/16384", None),
        at_least("hit, 16 Ki pages", "iotlb_hit<Viommu>/16384", "iotlb_hit<TbbMap>/16384", None),
        at_least("hit, 16 Ki pages", "iotlb_hit<Viommu>/16384", "iotlb_hit<SharedMutexMap>/16384", None),
        at_least("mixed sizes, 16 Ki", "mixed_hit<Viommu>/16384/1", "mixed_hit<QemuShape>/16384/1", 3),
        at_least("mixed sizes, 256 Ki", "mixed_hit<Viommu>/262144/1", "mixed_hit<QemuShape>/262144/1", 6),
        at_least("mixed sizes, 16 Ki, batches of 64", "mixed_hit<Viommu>/16384/64", "mixed_hit<QemuShape>/16384/64", 4),
        at_least("past QEMU's limit, 16 Ki", "iotlb_hit<Viommu>/16384", "iotlb_hit<QemuShapeCapped>/16384", 25),
        at_least("past QEMU's limit, 16 Ki, batches of 64", "batch_hit<Viommu>/16384/64",
                 "batch_hit<QemuShapeCapped>/16384/64", 60),
        at_least("batches of 64, 1 Ki", "batch_hit<Viommu>/1024/64", "batch_hit<QemuShape>/1024/64", 8),
        at_least("batches of 64, 16 Ki", "batch_hit<Viommu>/16384/64", "batch_hit<QemuShape>/16384/64", 8),
        at_least("batches of 64, 256 Ki", "batch_hit<Viommu>/262144/64", "batch_hit<QemuShape>/262144/64", 30),
    ]
    for tables, where in ((16, "64 KiB"), (128, "512 KiB"), (2048, "8 MiB")):
        rows.append(at_least(f"walk, 64 in flight, tables of {where}", f"page_walk<Viommu>/{tables}/64",
                             f"page_walk<QemuShape>/{tables}/1", 6.5))
    rows += [
        at_least("walk, 64 in flight, tables of 1 GiB", "page_walk<Viommu>/262144/64", "page_walk<QemuShape>/262144/1", 9),
        at_most("walk, 64 in flight, tables of 1 GiB", "page_walk<Viommu>/262144/64", "page_walk<Floor>/262144/1", 1.15),
    ]
    for question, title in (("first_stage_walk", "first-stage walk"), ("second_stage_walk", "second-stage walk with flags"),
                            ("nested_walk", "nested walk")):
        rows.append(at_least(f"{title}, 64 in flight, tables of 8 MiB, against one by one", f"{question}<Lanes>/2048/64",
                             f"{question}<Scalar>/2048/64", None))
    for tables, where in ((16, "64 KiB"), (128, "512 KiB"), (2048, "8 MiB"), (262144, "1 GiB")):
        rows.append(at_least(f"miss with fill, tables of {where}", f"miss_fill<Viommu>/{tables}/1",
                             f"miss_fill<QemuShape>/{tables}/1", 4))
        rows.append(at_least(f"miss with fill, batches of 64, {where}", f"miss_fill<Viommu>/{tables}/64",
                             f"miss_fill<QemuShape>/{tables}/1", 4))
    rows += [
        at_least("page invalidation, 1 Ki cached", "invalidate_page<Viommu>/1024", "invalidate_page<QemuShape>/1024", 350),
        at_least("page invalidation, 16 Ki cached", "invalidate_page<Viommu>/16384", "invalidate_page<QemuShape>/16384",
                 15000),
        at_least("domain invalidation, 1 member, 1 Ki cached", "invalidate_domain<Viommu>/1024/1",
                 "invalidate_domain<QemuShape>/1024/1", 1000),
        at_least("domain invalidation, 256 members, 1 Ki cached", "invalidate_domain<Viommu>/1024/256",
                 "invalidate_domain<QemuShape>/1024/256", 20),
        at_least("strict unmap beside a reader, 1 Ki", "strict_unmap<Viommu>/1024", "strict_unmap<QemuShape>/1024", 1),
        at_least("strict unmap beside a reader, 16 Ki", "strict_unmap<Viommu>/16384", "strict_unmap<QemuShape>/16384", 20),
    ]
    for threads, many in (("", ""), ("/threads:2", ", 2 threads")):
        rows += [
            at_least(f"interrupt, 64 Ki entries{many}", f"interrupt_route<Viommu>/65536{threads}",
                     f"interrupt_route<QemuShape>/65536{threads}", None),
            at_least(f"route, 64 Ki entries{many}", f"interrupt_route<ViommuRoute>/65536{threads}",
                     f"interrupt_route<QemuShape>/65536{threads}", None),
        ]
    for domains in (4, 64):
        for work, words in ((1000, "1 us of work each"), (0, "no work")):
            aimed = domains == 64 and work != 0
            parallel = f"queue<Parallel>/{domains}/{work}"
            rows.append(at_least(f"queue of {domains} domains, {words}, 2 threads", parallel,
                                 f"queue<Serial>/{domains}/{work}", 1.5 if aimed else None))
            rows.append(at_least(f"queue of {domains} domains, {words}, 2 threads", parallel,
                                 f"queue<Independent>/{domains}/{work}", 0.85 if aimed else None))
    rows.append(at_most("a descriptor alone, with an executor", "queue_alone<Parallel>/0", "queue_alone<Serial>/0", 1.02))
    for entries in (1024, 16384):
        for rate, aim in ((100_000, 1.02), (1_000_000, 1.15), (1_000_000_000, None)):
            rows.append(at_most(f"reader beside {rate_name(rate)} invalidations, {count(entries)}",
                                f"interference<Viommu>/{rate}/{entries}/0", f"interference<Viommu>/0/{entries}/0", aim))
            rows.append(at_least(f"reader beside {rate_name(rate)} invalidations, {count(entries)}",
                                 f"interference<Viommu>/{rate}/{entries}/0", f"interference<QemuShape>/{rate}/{entries}/0",
                                 None))
    for shape, least in (("contiguous", 350), ("runs16", None), ("scattered", 100), ("sparse", 70)):
        for question, what in (("first", "first replay"), ("unchanged", "nothing changed"), ("one_changed", "a page moved"),
                               ("domain_moved", "another domain")):
            aim = least if question in ("first", "unchanged") else None
            rows.append(at_least(f"{what}, {shape}", f"replay_{question}<Viommu>/{shape}/16384",
                                 f"replay_{question}<QemuShape>/{shape}/16384", aim))
    rows += [
        at_most("first replay, contiguous", "replay_first<Viommu>/contiguous/16384", "replay_first<Floor>/contiguous/16384",
                1.11),
        at_most("tables read whole, contiguous", "table_scan<Lanes>/contiguous/32768",
                "table_scan<Floor>/contiguous/32768", 1.11),
    ]
    return rows


def virtio_aims():
    rows = []
    for shape, translate, change in (("dense", 20, 8), ("sparse", 3, 3)):
        for mappings in (1024, 65536, 1 << 20):
            for question, what, aim in (("translate", "lookup", translate), ("map", "MAP", change),
                                        ("unmap", "UNMAP", change)):
                for ours, how in (("Viommu", ""), ("ViommuCalls", ", C interface")):
                    for peer in ("GTreeMutex", "SharedMutexMap"):
                        aimed = aim if mappings == 1 << 20 and peer == "GTreeMutex" else None
                        rows.append(at_least(f"{what} among {count(mappings)} mappings, {shape}{how}",
                                             f"virtio_{question}<{ours}>/{shape}/{mappings}",
                                             f"virtio_{question}<{peer}>/{shape}/{mappings}", aimed))
    return rows


def vhost_aims():
    rows = []
    for leaf, words in ((4, "4 KiB"), (2048, "2 MiB")):
        rows.append(at_least(f"vhost: 1 GiB of {words} pages fed and read", f"vhost_feed<Viommu>/{leaf}",
                             f"vhost_feed<PageAtATime>/{leaf}", None))
    for ranges in (16, 256, 2048):
        for threads, many in (("", ""), ("/threads:2", ", 2 threads")):
            for peer in ("RwlockList", "SharedMutexMap"):
                rows.append(at_least(f"vhost: a buffer among {ranges} ranges{many}", f"vhost_translate<Viommu>/{ranges}{threads}",
                                     f"vhost_translate<{peer}>/{ranges}{threads}", None))
    return rows


def thread_aims(results):
    """The more threads together against as many times one."""
    rows = []
    for name in results:
        found = re.fullmatch(r"iotlb_hit<Viommu>/(16384)/threads:(\d+)", name)
        if found:
            threads = int(found[2])
            rows.append((f"hit, {count(int(found[1]))} pages, {threads} threads against one", name,
                         f"iotlb_hit<Viommu>/{found[1]}", 0.9 * threads))
    return rows


def count(number):
    return f"{number // 1024} Ki" if number >= 1024 else str(number)


def rate_name(rate):
    return {0: "no", 100_000: "100 K/s", 1_000_000: "1 M/s", 1_000_000_000: "unthrottled"}[rate]


def figure(number):
    if number is None:
        return "-"
    if number >= 1e6:
        return f"{number / 1e6:.1f} ms"
    if number >= 1e4:
        return f"{number / 1e3:.1f} us"
    return f"{number:.1f} ns" if number >= 10 else f"{number:.2f} ns"


def times(ratio):
    return f"{ratio:,.0f}x" if ratio >= 100 else f"{ratio:.1f}x" if ratio >= 10 else f"{ratio:.2f}x"


def translator(name):
    return re.search(r"<(\w+)>", name)[1]


def judge(rows, results):
    """Table lines: title, ours, peer, the peer's, ratio, aim, reached."""
    lines = []
    for row in rows:
        ours, peer = results.get(row.ours), results.get(row.peer)
        if ours is None or peer is None:
            continue
        mine, theirs = ours.median(), peer.median()
        who = "itself alone" if translator(row.ours) == translator(row.peer) else translator(row.peer)
        if row.kind == "more ns":
            who = "viommu.hpp"
        aim = ""
        if row.aim is not None:
            aim = {"at least": ">= " + times(row.aim), "at most": "<= " + times(row.aim),
                   "more ns": f"<= +{row.aim:.0f} ns"}[row.kind]
        if mine is None or theirs is None:
            lines.append([row.title, "-", who, "-", "-", aim, ours.error or peer.error])
            continue
        mark = "~" if ours.disturbed() or peer.disturbed() else ""
        if row.kind == "more ns":
            value, text = mine - theirs, f"{mine - theirs:+.1f} ns"
            reached = value <= row.aim
        elif row.kind == "at most":
            value = mine / theirs
            text, reached = times(value), row.aim is not None and value <= row.aim
        else:
            value = theirs / mine
            text, reached = times(value), row.aim is not None and value >= row.aim
        verdict = "" if row.aim is None else "yes" if reached else "no"
        lines.append([row.title, figure(mine), who, figure(theirs), mark + text, aim, verdict])
    for title, many, one, aim in thread_aims(results):
        if results[many].median() and results.get(one) and results[one].median():
            mark = "~" if results[many].disturbed() or results[one].disturbed() else ""
            value = results[one].median() / results[many].median()
            lines.append([title, figure(results[many].median()), "itself alone", figure(results[one].median()),
                          mark + times(value), f">= {aim:.1f}x", "yes" if value >= aim else "no"])
    return lines


HEADER = ["question", "Viommu", "beside", "its time", "ratio", "aim", "reached"]


def print_table(lines):
    widths = [max(len(line[column]) for line in [HEADER] + lines) for column in range(len(HEADER))]
    for line in [HEADER] + lines:
        cells = [line[0].ljust(widths[0])]
        for column in range(1, len(HEADER)):
            left = column in (2, 6)
            cells.append(line[column].ljust(widths[column]) if left else line[column].rjust(widths[column]))
        print("  ".join(cells).rstrip())
    print("""
Times are of one translation, descriptor or unmap; the median of repetitions in shuffled order, without the time a thread
waited for a core. `>=`: how many times faster than its neighbour; `<=`: how many times slower. `~`: another process took
more than a tenth of a figure's time. Serial is the library without an executor, Independent two of it, each with half of
the queue on a core of its own. QemuShape is QEMU's way of keeping translations, made anew; Floor is what the memory
accesses alone cost.""")


# ---- The HTML report ------------------------------------------------------------------------------------------------

# Colours that differ in print and to every eye (Okabe and Ito), with a marker each.
LOOKS = {
    "Viommu": ("#0072B2", "o"), "ViommuC": ("#56B4E9", "s"), "QemuShape": ("#D55E00", "^"),
    "QemuShapeCapped": ("#E69F00", "v"), "TbbMap": ("#009E73", "D"), "SharedMutexMap": ("#CC79A7", "P"),
    "RwlockList": ("#8C6D31", "X"), "Floor": ("#555555", "."), "FloorChase": ("#999999", "."),
}
LABELS = {
    "Viommu": "Viommu", "ViommuC": "Viommu, C ABI", "QemuShape": "QEMU's shape",
    "QemuShapeCapped": "QEMU's shape, 1,024 entries", "TbbMap": "oneTBB hash map",
    "SharedMutexMap": "ordered map, shared mutex", "GTreeMutex": "GLib's tree, mutex",
    "ViommuCalls": "Viommu, the whole device",
    "RwlockList": "sorted list, rwlock", "Floor": "floor",
    "FloorChase": "floor, dependent loads",
}
ORDER = list(LOOKS)


def bytes_name(number):
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}"
        number /= 1024
    return f"{number:.0f} TiB"


class Plots:
    """Each plot becomes the text of an SVG element."""

    def __init__(self, results):
        import matplotlib  # pylint: disable=import-outside-toplevel

        matplotlib.use("svg")
        from matplotlib import pyplot  # pylint: disable=import-outside-toplevel

        self.pyplot = pyplot
        self.results = results
        pyplot.rcParams.update({
            "svg.fonttype": "path", "font.size": 10, "axes.grid": True, "grid.alpha": 0.3, "axes.spines.top": False,
            "axes.spines.right": False, "lines.linewidth": 1.8, "lines.markersize": 6, "legend.frameon": False,
            "axes.titlesize": 11, "figure.facecolor": "white", "svg.hashsalt": "viommu",
        })

    def series(self, pattern):
        """{translator: [(argument, ns)]} of all benchmarks whose name matches; group 1 translator, group 2 argument."""
        found = collections.defaultdict(list)
        for name, result in self.results.items():
            match = re.fullmatch(pattern, name)
            if match and result.median():
                found[match[1]].append((int(match[2]), result.median()))
        return {key: sorted(found[key]) for key in sorted(found, key=ORDER.index)}

    def line(self, axes, key, points, label=None, dashed=False, colour=None):
        own, marker = LOOKS[key]
        axes.plot([x for x, _ in points], [y for _, y in points], color=colour or own, marker=marker,
                  linestyle="--" if dashed else "-", label=label or LABELS[key], markeredgewidth=1.8)

    def finish(self, figure_, *all_axes):
        """One legend, right of the first of the axes, for the lines of all of them."""
        handles = {}
        for axes in all_axes:
            handles.update(zip(*reversed(axes.get_legend_handles_labels())))
        all_axes[0].legend(handles.values(), handles.keys(), loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=9)
        text = io.StringIO()
        figure_.savefig(text, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        self.pyplot.close(figure_)
        return text.getvalue()[text.getvalue().index("<svg"):]

    @staticmethod
    def log_ns(axes, label):
        axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")

    @staticmethod
    def ticks(axes, values, names):
        axes.set_xscale("log")
        axes.set_xticks(values, names)
        axes.minorticks_off()

    def hits(self):
        figure_, axes = self.pyplot.subplots(figsize=(6.4, 4.2))
        for key, points in self.series(r"iotlb_hit<(\w+)>/(\d+)").items():
            self.line(axes, key, points)
        for key, points in self.series(r"batch_hit<(Viommu)>/(\d+)/64").items():
            self.line(axes, key, points, "Viommu, batches of 64", dashed=True)
        pages = [64, 1024, 16384, 262144]
        self.ticks(axes, pages, [count(page) for page in pages])
        axes.set_xlabel("working set, 4 KiB pages of 16 devices")
        self.log_ns(axes, "ns for a translation")
        return self.finish(figure_, axes)

    def threads(self):
        figure_, all_axes = self.pyplot.subplots(1, 2, figsize=(8.6, 3.8), sharey=True)
        for axes, pages in zip(all_axes, (1024, 262144)):
            alone = self.series(rf"iotlb_hit<(\w+)>/({pages})")
            together = self.series(rf"iotlb_hit<(\w+)>/{pages}/threads:(\d+)")
            keys = [key for key in alone if key in together]
            counts = sorted({1} | {threads for points in together.values() for threads, _ in points})
            width = 0.8 / len(counts)
            for place, threads in enumerate(counts):
                heights = [1e3 / (alone[key][0][1] if threads == 1 else dict(together[key]).get(threads, float("inf")))
                           for key in keys]
                shade = 0.4 + 0.6 * place / max(len(counts) - 1, 1)
                axes.bar([index + width * (place - (len(counts) - 1) / 2) for index in range(len(keys))], heights,
                         width * 0.92, color=[LOOKS[key][0] for key in keys], alpha=shade)
                axes.bar([0], [0], color="#333333", alpha=shade, label=f"{threads} thread{'s' if threads > 1 else ''}")
            axes.set_xticks(range(len(keys)), [LABELS[key].replace(", ", ",\n") for key in keys], rotation=40, ha="right",
                            fontsize=8)
            axes.set_yscale("log")
            axes.set_ylim(bottom=1)
            axes.set_axisbelow(True)
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
            axes.grid(axis="x", visible=False)
            axes.set_title(f"{count(pages)} pages")
        all_axes[0].set_ylabel("million translations a second,\nall threads together")
        return self.finish(figure_, all_axes[1])

    def misses(self):
        figure_, (walks, fills) = self.pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
        tables = [16, 128, 2048, 262144]
        for key, points in self.series(r"page_walk<(\w+)>/(\d+)/1").items():
            if key != "ViommuC":
                self.line(walks, key, points)
        for key, points in self.series(r"page_walk<(Viommu)>/(\d+)/64").items():
            self.line(walks, key, points, "Viommu, 64 at a time", dashed=True)
        for key, points in self.series(r"miss_fill<(\w+)>/(\d+)/1").items():
            if key != "ViommuC":
                self.line(fills, key, points)
        for key, points in self.series(r"miss_fill<(Viommu)>/(\d+)/64").items():
            self.line(fills, key, points, "Viommu, 64 at a time", dashed=True)
        for axes, title in ((walks, "walk, nothing cached"), (fills, "lookup, walk and insertion")):
            self.ticks(axes, tables, [bytes_name(table * 4096) for table in tables])
            axes.set_xlabel("leaf tables")
            axes.set_title(title)
        self.log_ns(walks, "ns for a translation")
        return self.finish(figure_, fills, walks)

    def interference(self):
        figure_, all_axes = self.pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
        rates = [0, 100_000, 1_000_000, 1_000_000_000]
        for axes, entries in zip(all_axes, (1024, 16384)):
            for strict, dashed in ((0, False), (1, True)):
                for key, points in self.series(rf"interference<(\w+)>/(\d+)/{entries}/{strict}").items():
                    if strict and key != "Viommu":
                        continue
                    places = [(rates.index(rate), ns) for rate, ns in points]
                    self.line(axes, key, places, f"{LABELS[key]}, a wait for each" if strict else None, dashed)
            axes.set_xticks(range(len(rates)), ["none", "100 K", "1 M", "as fast as\nit goes"])
            axes.set_xlabel("page invalidations a second")
            axes.set_title(f"{count(entries)} entries cached")
        self.log_ns(all_axes[0], "ns for a translation of the reader")
        return self.finish(figure_, all_axes[1])

    def widths(self):
        figure_, axes = self.pyplot.subplots(figsize=(6.4, 3.8))
        colours = {64: "#56B4E9", 1024: "#0072B2", 16384: "#009E73", 262144: "#D55E00"}
        for pages, colour in colours.items():
            for key, points in self.series(rf"batch_hit<(Viommu)>/{pages}/(\d+)").items():
                self.line(axes, key, points, f"{count(pages)} pages", colour=colour)
        widths = [8, 32, 64, 256, 4096]
        self.ticks(axes, widths, [f"{width:,}" for width in widths])
        axes.set_ylim(bottom=0)
        axes.set_xlabel("requests in a batch")
        axes.set_ylabel("ns for a translation")
        return self.finish(figure_, axes)

    def invalidations(self):
        figure_, axes = self.pyplot.subplots(figsize=(6.4, 4))
        for key, points in self.series(r"invalidate_page<(\w+)>/(\d+)").items():
            self.line(axes, key, points)
        entries = [1024, 16384, 262144]
        self.ticks(axes, entries, [count(entry) for entry in entries])
        axes.set_xlabel("translations cached")
        self.log_ns(axes, "ns for a page-selective descriptor")
        return self.finish(figure_, axes)


STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 70em; margin: 2em auto; padding: 0 1em; color: #222; }
h1 { font-size: 1.6em; } h2 { font-size: 1.2em; margin-top: 2em; }
table { border-collapse: collapse; font-size: 0.88em; font-variant-numeric: tabular-nums; }
th, td { padding: 0.2em 0.8em; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child, td.left { text-align: left; }
tr.yes td:last-child { color: #00694b; } tr.no td:last-child { color: #b33c00; font-weight: bold; }
svg { max-width: 100%; height: auto; } figure { margin: 1em 0; } figcaption { color: #555; font-size: 0.9em; }
details { margin: 0.6em 0; }
"""


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return "unknown processor"


def html_table(header, lines):
    text = "<table><tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in header) + "</tr>\n"
    for line in lines:
        kind = line[-1] if line[-1] in ("yes", "no") else ""
        text += f'<tr class="{kind}">' + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>\n"
    return text + "</table>"


def everything(results):
    groups = collections.defaultdict(list)
    for name, result in results.items():
        groups[name.split("<")[0]].append((name, result))
    text = ""
    for group, members in groups.items():
        lines = []
        for name, result in members:
            all_ns = [one["ns"] for one in result.repetitions]
            spread = f"{figure(min(all_ns))} .. {figure(max(all_ns))}" if all_ns else "-"
            extra = ", ".join(f"{counter} {result.counter(counter):,.4g}" for counter in COUNTERS
                              if result.counter(counter) is not None)
            if all_ns and result.disturbed():
                extra += f" ~ {result.counter('waited'):.0%} waited"
            lines.append([name, figure(result.median()), spread, result.error or extra])
        text += f"<details><summary>{html.escape(group)}</summary>"
        text += html_table(["benchmark", "median", "least .. most", ""], lines) + "</details>\n"
    return text


def write_html(file, lines, results):
    plots = Plots(results)
    figures = [
        ("Hit cost over working set", plots.hits(), "One thread; guard, request and answer for each translation."),
        ("Threads", plots.threads(), "The darker, the more threads, each with its own reader on one engine."),
        ("Batch width", plots.widths(), "Hits in batches of one device, the writing of the requests included."),
        ("Miss cost over footprint", plots.misses(), "Four levels, full leaf tables, random pages."),
        ("Page invalidation over population", plots.invalidations(), "Runs of descriptors through the guest's queue."),
        ("Interference over invalidation rate", plots.interference(),
         "A reader flat out on one core, the guest's invalidations on another; one wait for 64 descriptors."),
    ]
    text = f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>libviommu: benchmark report</title><style>{STYLE}</style></head><body>
<h1>libviommu: benchmark report</h1>
<p>{html.escape(cpu_model())}, {os.cpu_count()} cores, {time.strftime("%Y-%m-%d")}. Medians of repetitions in shuffled
order, without the time a thread waited for a core; every translator answered right before it was timed.</p>
<h2>Against the aims</h2>
{html_table(HEADER, lines)}
"""
    for title, svg, caption in figures:
        text += f"<h2>{title}</h2><figure>{svg}<figcaption>{caption}</figcaption></figure>\n"
    text += "<h2>Every figure</h2>\n" + everything(results) + "</body></html>\n"
    with open(file, "w", encoding="utf-8") as out:
        out.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", action="append", metavar="QUESTION")
    parser.add_argument("--html", metavar="FILE")
    parser.add_argument("--keep", metavar="FILE")
    parser.add_argument("--kept", metavar="FILE")
    arguments = parser.parse_args()
    questions = [question for question in QUESTIONS
                 if (arguments.full or question.headline) and (not arguments.only or question.name in arguments.only)]
    if arguments.kept:
        with open(arguments.kept, encoding="utf-8") as kept:
            results = {name: Result(**result) for name, result in json.load(kept).items()}
    else:
        results = collect(arguments.folder, questions, arguments.full)
    lines = judge(aims() + virtio_aims() + vhost_aims(), results)
    print()
    print_table(lines)
    if arguments.keep:
        with open(arguments.keep, "w", encoding="utf-8") as out:
            json.dump({name: vars(result) for name, result in results.items()}, out, indent=1)
    if arguments.html:
        write_html(arguments.html, lines, results)
        print(f"\nreport: {arguments.html}")
    wrong = [name for name, result in results.items() if "wrong" in result.error]
    if wrong:
        sys.exit("wrong answers: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
