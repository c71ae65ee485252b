"""What a process tells of itself when it is asked."""

import signal
import subprocess
import sys

PROGRAM = """
import sys
from runtime import interpreter

def waits_for_a_server():
    print("waiting", flush=True)
    sys.stdin.read()

interpreter.tell_when_asked()
waits_for_a_server()
"""


def test_a_process_that_is_asked_tells_what_it_is_at_and_goes_on() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waiting\n"
        process.send_signal(signal.SIGUSR1)
        _, told = process.communicate()
    assert process.returncode == 0
    assert b"in waits_for_a_server" in told
