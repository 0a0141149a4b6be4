"""Known vulnerabilities of everything pinned in constraints.txt, by pip-audit and PyPI's advisories.

Exit 0: everything was looked at and nothing is known. 1: something is known. 3: not looked at, or not all of it.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CLEAN, VULNERABLE, NOT_AUDITED = 0, 1, 3
_PROBE_S = 10


def main() -> int:
    """Asks the advisory service about one pin first: where it does not know that, the rest would only look audited."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pins", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--advisories", default="https://pypi.org/pypi")
    in_pins = f"{sys.executable} -m uv tool run --constraints {ROOT / 'constraints.txt'} pip-audit"
    parser.add_argument("--command", default=in_pins, help="how pip-audit is called")
    asked = parser.parse_args()
    pins = [line for line in asked.pins.read_text(encoding="utf-8").split() if "==" in line]
    if why := _why_unknown(asked.advisories, pins[0]):
        print(f"NOT AUDITED: {len(pins)} pins of {asked.pins.name}: {why}")
        return NOT_AUDITED
    command = shlex.split(asked.command)
    command += ["--requirement", str(asked.pins), "--no-deps", "--disable-pip", "--format=json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report = json.loads(ran.stdout)
    except ValueError:
        print(f"NOT AUDITED: {len(pins)} pins: pip-audit failed: {ran.stderr.strip()[-500:]}")
        return NOT_AUDITED
    return _judge(report["dependencies"], len(pins))


def _why_unknown(advisories: str, pin: str) -> str:
    name, _, version = pin.partition("==")
    url = f"{advisories}/{name}/{version}/json"
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_S) as answer:  # noqa: S310 - https, or what a test serves
            return "" if "vulnerabilities" in json.load(answer) else f"{url} has no advisories"
    except (urllib.error.URLError, TimeoutError, ValueError) as error:
        return f"{url}: {error}"


def _judge(dependencies: list[dict[str, Any]], pins: int) -> int:  # Any: pip-audit's JSON
    skipped = [each["name"] for each in dependencies if "skip_reason" in each]
    found = [(each, one) for each in dependencies for one in each.get("vulns", ())]
    for each, one in found:
        fixed = ", ".join(one["fix_versions"]) or "no release"
        print(f"VULNERABLE: {each['name']} {each['version']}: {one['id']}; fixed in {fixed}")
    audited = len(dependencies) - len(skipped)
    if audited < pins:
        print(f"NOT AUDITED: {pins - audited} of {pins} pins: {', '.join(skipped) or 'pip-audit left them out'}")
    print(f"audited {audited} pins, {len(found)} known vulnerabilities")
    return VULNERABLE if found else CLEAN if audited >= pins else NOT_AUDITED


if __name__ == "__main__":
    sys.exit(main())
