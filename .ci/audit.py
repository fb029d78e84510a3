"""Are there known vulnerabilities in the versions that netproof is tested with? Asks an advisory service by pip-audit.

Exits with 1 where there are, and where pip-audit itself fails; with 0 where there are none, and where the service
cannot be reached, which is said: a check that passes without a network must not claim to have looked.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"
#: What pip-audit says, in lower case, when nobody answers it.
_UNREACHABLE = ("connect", "timed out", "timeout", "resolve", "httperror", "http error", "client error", "server error")


def main(arguments: Sequence[str] | None = None) -> int:
    """Audit a file of pinned versions; the exit status."""
    parser = argparse.ArgumentParser(prog="python .ci/audit.py", description=__doc__)
    parser.add_argument("file", type=Path, nargs="?", default=CONSTRAINTS, help="pinned versions")
    parser.add_argument("--osv-url", help="an OSV service; by default PyPI's own advisories")
    parser.add_argument("--seconds", type=float, default=60.0, help="limit on the whole audit")
    options = parser.parse_args(arguments)
    command = [sys.executable, "-m", "pip_audit", "-r", str(options.file), "--no-deps", "--disable-pip"]
    command += ["-f", "json", "--progress-spinner", "off", "--timeout", "5"]
    command += ["-s", "osv", "--osv-url", options.osv_url] if options.osv_url else []
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=options.seconds, check=False)
    except subprocess.TimeoutExpired:
        return _not_audited(f"no answer within {options.seconds:g} seconds")
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        said = done.stderr.strip().splitlines()[-1:] or ["it says nothing"]
        if any(word in done.stderr.lower() for word in _UNREACHABLE):
            return _not_audited(said[0])
        print(f"pip-audit failed with status {done.returncode}: {said[0]}", file=sys.stderr)
        return 1
    return _judged(found)


def _judged(found: list[dict[str, Any]]) -> int:
    skipped = [each["name"] for each in found if "skip_reason" in each]
    vulnerable = [each for each in found if each.get("vulns")]
    for each in vulnerable:
        for known in each["vulns"]:
            fixed = ", ".join(known["fix_versions"]) or "no version yet"
            print(f"{each['name']} {each['version']}: {known['id']}, fixed in {fixed}", file=sys.stderr)
    if vulnerable:
        return 1
    if len(skipped) == len(found):
        return _not_audited("it knows none of the packages")
    print(f"no known vulnerability in {len(found) - len(skipped)} packages", end="")
    print(f"; not audited: {', '.join(skipped)}" if skipped else "")
    return 0


def _not_audited(reason: str) -> int:
    print(f"not audited: the advisory service cannot be reached ({reason})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
