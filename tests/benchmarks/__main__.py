"""All benchmarks that need nothing but this machine, one after another: python -m tests.benchmarks [NAME ...]

    FACES_HOME=... python -m tests.benchmarks            # about an hour; the machine should have nothing else to do

Each prints its Markdown and keeps it in results/new/NAME.md, beside the results that have been read and commented.
Imagewoof, prepared at 64 px, is looked for in FACES_HOME; what is not installed is left out of the tables. Only when
they are named: "gpu", which needs a GPU and Imagewoof at 128 px, and "recipe", which takes hours and goes on where it
was cut off.
results/report.md puts all goals beside what was measured.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from tests.helpers import ROOT

BENCHMARKS = {  # name: module and its words
    "heads": ("heads",), "speed": ("speed",), "decoding": ("decoding",), "demo": ("demo",),
    "projections": ("projections",), "growth": ("growth", "--patience", "3"), "lab": ("lab",), "picture": ("picture",),
    "viewers": ("viewers",), "on_screen": ("on_screen",), "start": ("start",), "together": ("together",),
    "scaling": ("scaling", "--engines", "local"), "recovery": ("recovery",),
}  # fmt: skip
KEPT = Path(__file__).parent / "results" / "new"
NAMED = {"gpu": ("gpu",), "recipe": ("recipe", "--keep", str(KEPT / "recipe"))}  # only when asked for


def main() -> None:
    """Run those that are asked for, and say which failed."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS | NAMED))
    asked = words.parse_args().names or list(BENCHMARKS)
    if unknown := sorted(set(asked) - set(BENCHMARKS | NAMED)):
        words.error(f"There is no benchmark {unknown}. There are: {', '.join(BENCHMARKS | NAMED)}.")
    failed = []
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in asked:
        module, *terms = (BENCHMARKS | NAMED)[name]
        print(f"\n# {name}\n", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{module}", *terms]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
            assert running.stdout is not None
            with (KEPT / f"{name}.md").open("w", encoding="utf-8") as kept:
                for line in running.stdout:
                    print(line, end="", flush=True)
                    kept.write(line)
        failed += [name] if running.returncode else []
    sys.exit(f"These failed: {', '.join(failed)}." if failed else 0)


if __name__ == "__main__":
    main()
