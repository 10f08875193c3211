"""Mistreat skanomaly at length: ``python tests/torture [--share 0.1] [PART...]``, or ``make torture``.

Every module of this folder with a function ``run(share)`` is a part. It runs its trials, or a share of them, and
returns how many had each outcome; outcomes in `BAD` must not occur.
"""

import argparse
import importlib
import pkgutil
import sys
import time
from pathlib import Path

BAD = ("silent wrong result", "raw error", "crash", "hang", "code executed", "written", "fetched", "memory", "lost")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", nargs="*", help="names of parts; all by default")
    parser.add_argument("--share", type=float, default=1.0, help="share of the trials")
    options = parser.parse_args()
    failed = False
    for name in sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])):
        part = importlib.import_module(name)
        if hasattr(part, "run") and (not options.part or name in options.part):
            start = time.perf_counter()
            counts = part.run(options.share)
            bad = sum(counts.get(outcome, 0) for outcome in BAD)
            failed |= bad > 0 or not counts
            print(f"{name}: {sum(counts.values())} trials, {bad} bad, {time.perf_counter() - start:.0f} s", flush=True)
            for outcome, n in sorted(counts.items(), key=lambda item: -item[1]):
                print(f"    {n:6d}  {outcome}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
