#!/usr/bin/env python3
"""Whether the instrument counts the same with QEMU 10 (Debian 13) as with the QEMU that is installed.

    python3 qemu/validation/qemu10.py                    # about five minutes; needs Debian 12, apt-get and the network once
    python3 qemu/validation/qemu10.py --emulator FILE    # with another one that is there already

Gets QEMU 10.0 out of bookworm-backports into target/qemu10, without installing anything, and runs the same programs with both. Every counter of
a walk over private memory has to agree within 0.5 % (2 % where CPUs share a kernel: they wait for its lock in another order). Where CPUs share
pages, the emulators' timers decide who touches one first: there all that does not depend on the order of turns anyway (`--quanta`) has to agree
within 1 %. Measured with 7.2.22 and 10.0.2: 0.23 % (time of walks), 1.6 % (time of second-level hits), 0.02 % and 0.04 %. A run whose `health` has an error fails by itself. To run the tests with it as well:

    PATH=$PWD/target/qemu10/usr/bin:$PATH QEMU_MODULE_DIR=/nonexistent cargo test -p skerry --test qemu instrument::
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target/qemu10"
PROGRAM = "qemu-system-aarch64"
MIRROR = "http://deb.debian.org/debian"
KEYS = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Arguments of `run`, and by how many percent a sum over all CPUs may differ. With `--quanta`, what depends on the quantum is left out.
RUNS = [
    ("array-walk --size 8M --overlap 0 --model blocking", 0.5),
    ("array-walk --size 8M --overlap 0 --model prefetching --machine uneven", 2.0),
    ("array-walk --size 8M --overlap 0.5 --model blocking --quanta", 1.0),
    ("array-walk --size 8M --overlap 0.5 --model prefetching --system non-numa --quanta", 1.0),
]
# What is smaller differs by its own grain, and so does time without work.
SMALLEST = 10_000
LEFT_OUT = {"idle"}


def unpack():
    """The emulator out of its package, below FOLDER."""
    apt = FOLDER / "apt"
    for name in ("lists/partial", "cache/archives/partial"):
        (apt / name).mkdir(parents=True, exist_ok=True)
    (apt / "sources.list").write_text(
        "".join(f"deb [signed-by={KEYS}] {MIRROR} {suite} main\n" for suite in ("bookworm", "bookworm-backports"))
    )
    (apt / "apt.conf").write_text(
        f'Dir::Etc::sourcelist "{apt}/sources.list"; Dir::Etc::sourceparts "/dev/null";\n'
        f'Dir::State::lists "{apt}/lists"; Dir::Cache "{apt}/cache";\n'
    )
    environment = {**os.environ, "APT_CONFIG": str(apt / "apt.conf")}
    subprocess.run(["apt-get", "update", "-q"], env=environment, check=True, stdout=sys.stderr)
    package = ["apt-get", "download", "-q", "-t", "bookworm-backports", "qemu-system-arm"]
    subprocess.run(package, env=environment, check=True, cwd=FOLDER, stdout=sys.stderr)
    for file in FOLDER.glob("qemu-system-arm_*.deb"):
        subprocess.run(["dpkg-deb", "-x", file, FOLDER], check=True)
    return FOLDER / "usr/bin" / PROGRAM


def records(arguments, emulator):
    """Sums over CPUs of what a run says is modelled in what was measured; the emulator's version; and which metrics depend on the quantum."""
    environment = dict(os.environ)
    if emulator:
        environment["PATH"] = f"{emulator.parent}:{environment['PATH']}"
        # The installed modules are another version's.
        environment["QEMU_MODULE_DIR"] = "/nonexistent"
    command = ["cargo", "run", "-q", "--", "run", *arguments.split(), "--format", "json"]
    out = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    sums, version, sensitive = {}, None, set()
    for record in map(json.loads, out.splitlines()):
        version = record["qemu"]
        if record["kind"] == "modelled" and record["case"].endswith(".measured"):
            sums[record["metric"]] = sums.get(record["metric"], 0) + record["value"]
            if record["quantum_sensitive"]:
                sensitive.add(record["metric"])
    return sums, version, sensitive


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--emulator", type=pathlib.Path)
    emulator = parser.parse_args().emulator or FOLDER / "usr/bin" / PROGRAM
    emulator = emulator.resolve() if emulator.exists() else unpack()
    bad = 0
    for arguments, percent in RUNS:
        here, installed, sensitive = records(arguments, None)
        there, other, _ = records(arguments.replace(" --quanta", ""), emulator)
        if installed == other:
            sys.exit(f"both are {installed}")
        worst = ("nothing", 0.0)
        for metric in sorted(set(here) | set(there)):
            a, b = here.get(metric, 0), there.get(metric, 0)
            if metric in LEFT_OUT | sensitive or max(a, b) < SMALLEST:
                continue
            difference = abs(a - b) / max(a, b) * 100
            worst = max(worst, (metric, difference), key=lambda pair: pair[1])
        good = worst[1] <= percent
        bad += not good
        verdict = "equal" if good else "DIFFERENT"
        told = f"; {len(sensitive)} depend on the quantum" if sensitive else ""
        print(f"{verdict}: {arguments}: {installed} and {other} differ most in {worst[0]}, by {worst[1]:.4f} % (at most {percent}{told})")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
