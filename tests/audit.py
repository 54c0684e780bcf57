"""Known holes in what Faces installs: python -m tests.audit (asks the network; needs uv).

It fails when a package has one, and as well when a package could not be looked up: a silent auditor proves nothing.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

HASHES = Path(__file__).parent / "hashes.txt"
AUDIT = ["uv", "tool", "run", "--from", "pip-audit==2.10.1", "pip-audit", "--disable-pip", "--require-hashes"]


def pinned(text: str) -> dict[str, str]:
    """Name and version of each package of a requirements file."""
    return dict(re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==([^\s;\\]+)", text, re.MULTILINE))


def faults(report: dict[str, Any], wanted: dict[str, str]) -> list[str]:
    """What is wrong by a report of pip-audit, a sentence each; nothing if all was looked up and nothing is known."""
    looked_up = {each["name"]: each for each in report["dependencies"] if "vulns" in each}
    found = [f"{name} {version} was not looked up." for name, version in wanted.items() if name not in looked_up]
    for name, each in looked_up.items():
        for hole in each["vulns"]:
            mended = ", ".join(hole.get("fix_versions", [])) or "no version yet"
            found.append(f"{name} {each['version']} has {hole['id']}; mended in {mended}.")
    return found


def main() -> int:
    """Ask, and say what was found."""
    asked = subprocess.run([*AUDIT, "-r", str(HASHES), "-f", "json"], capture_output=True, text=True, check=False)
    try:
        report = json.loads(asked.stdout)
    except ValueError:
        print(f"The audit told nothing: {asked.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return 2
    found = faults(report, pinned(HASHES.read_text("utf-8")))
    print("\n".join(found) or "Nothing known, and everything was looked up.")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
