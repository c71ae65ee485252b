"""Combine what several processes left into one JSON report; run as a program, in the project's root.

python combine.py REPORT PACKAGES DATA...    packages are separated by commas

A program of its own, as coverage.py names files by the folder in which it runs. The data may come from another
checkout: a file is known by its package's folder and what follows.
"""

import sys
from pathlib import Path

import coverage


def combine(report: str, packages: list[str], data: list[str]) -> None:
    """Write the report; the data stay."""
    combined = coverage.Coverage(data_file=str(Path(report).with_suffix(".data")))
    combined.set_option("paths", {package: [package, f"*/{package}"] for package in packages})
    combined.combine(data, strict=True, keep=True)
    combined.save()
    combined.json_report(outfile=report, ignore_errors=True)


if __name__ == "__main__":
    combine(sys.argv[1], sys.argv[2].split(","), sys.argv[3:])
