"""``headrace bench faults`` runs the tests' own command."""

import subprocess
import sys


def test_bench_faults_takes_the_options_of_the_fault_schedules() -> None:
    command = (sys.executable, "-m", "producers", "bench", "faults", "--help")
    help_text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "--seeds" in help_text
