#!/usr/bin/env python3
"""What pycachesim, a cache simulator that nobody here wrote, counts on the traces of ../pycachesim.rs.

    python3 -m venv /tmp/pycachesim && /tmp/pycachesim/bin/pip install pycachesim==0.3.1
    /tmp/pycachesim/bin/python reference.py            # writes reference.txt
    /tmp/pycachesim/bin/python reference.py --check    # says whether it is what the file has
    valgrind --tool=lackey --trace-mem=yes sort FILE 2>&1 | python3 reference.py --shorten N > sort.trace

Both sides replace first in, first out. A dirty line that leaves a level goes into the next one without being read first: that is write-back
without write-allocate for all levels but the first.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).parent
LINE = 64
# Name, and for each level sets and ways. As in ../pycachesim.rs.
GEOMETRIES = {
    "small": [(16, 4), (32, 8), (64, 16)],
    "direct": [(32, 1), (128, 1), (256, 1)],
    "two-levels": [(64, 2), (256, 8)],
    "default": [(256, 4), (1024, 8), (4096, 16)],
}
ACCESSES = 60_000


def random_numbers(seed):
    while True:
        seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
        yield seed >> 33


def uniform():
    """Anywhere in 8 MiB; every fourth is a store."""
    numbers = random_numbers(1)
    return [(next(numbers) % 131_072, next(numbers) % 4 == 0) for _ in range(ACCESSES)]


def hot():
    """Seven of eight in 32 KiB, the others in 1 MiB; half are stores."""
    numbers = random_numbers(2)

    def one():
        lines = 512 if next(numbers) % 8 else 16_384
        return next(numbers) % lines, next(numbers) % 2 == 0

    return [one() for _ in range(ACCESSES)]


def strides():
    """Runs of 1 to 32 lines, 1 to 16 apart, in 4 MiB; every third run stores."""
    numbers = random_numbers(3)
    trace = []
    while len(trace) < ACCESSES:
        start, length = next(numbers) % 65_536, 1 + next(numbers) % 32
        step, store = 1 + next(numbers) % 16, next(numbers) % 3 == 0
        trace += [((start + i * step) % 65_536, store) for i in range(length)]
    return trace


def recorded(name):
    """A real program's: per access `l` or `s`, and how many lines further it is than the one before."""
    line, trace = 0, []
    for word in (HERE / name).read_text().split():
        line += int(word[1:])
        trace.append((line, word[0] == "s"))
    return trace


TRACES = {"uniform": uniform, "hot": hot, "strides": strides, "sort": lambda: recorded("sort.trace")}


def simulate(levels, trace):
    from cachesim import Cache, CacheSimulator, MainMemory

    below, caches = None, []
    for number, (sets, ways) in reversed(list(enumerate(levels))):
        links = {"store_to": below, "load_from": below} if below else {}
        cache = Cache(f"L{number + 1}", sets, ways, LINE, "FIFO", True, number == 0, **links)
        below = cache
        caches.insert(0, cache)
    memory = MainMemory()
    memory.load_to(caches[-1])
    memory.store_from(caches[-1])
    simulator = CacheSimulator(caches[0], memory)
    for line, store in trace:
        (simulator.store if store else simulator.load)(line * LINE, length=8)
    counts = [caches[0].backend.MISS_count]
    for cache in caches[1:]:
        counts += [cache.backend.HIT_count, cache.backend.MISS_count]
    return counts


def table():
    lines = [
        "# Written by reference.py with pycachesim 0.3.1. Do not edit.",
        "# trace, geometry: misses of the first level; then hits and misses of each further one",
    ]
    for name, make in TRACES.items():
        trace = make()
        for geometry, levels in GEOMETRIES.items():
            counts = " ".join(str(count) for count in simulate(levels, trace))
            lines.append(f"{name} {geometry} {counts}")
    return "\n".join(lines) + "\n"


def shorten(accesses):
    """Of what valgrind's lackey says: data only, by lines, without repetitions; those from the middle, where the program does its work."""
    trace = []
    for text in sys.stdin:
        kind = text[:2]
        if kind not in (" L", " S", " M"):
            continue
        address, store = int(text[3:].split(",")[0], 16), kind != " L"
        # 4 MiB: parts that are far from each other (stack, libraries, heap) come together, and disturb each other.
        access = (address // LINE % 65_536, store)
        if not trace or trace[-1] != access:
            trace.append(access)
    first = max(0, len(trace) - accesses) // 2
    last, words = 0, []
    for line, store in trace[first : first + accesses]:
        words.append(f"{'s' if store else 'l'}{line - last}")
        last = line
    for start in range(0, len(words), 24):
        print(*words[start : start + 24])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--shorten"]:
        shorten(int(sys.argv[2]))
    elif sys.argv[1:] == ["--check"]:
        same = table() == (HERE / "reference.txt").read_text()
        print("the same" if same else "reference.txt is not what pycachesim counts")
        sys.exit(not same)
    else:
        (HERE / "reference.txt").write_text(table())
