"""What a process tells of itself when it is asked, and how many pools of memory its threads have."""

import platform
import signal
import subprocess
import sys

import pytest

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


ARENAS = """
import ctypes, re, sys, threading
from runtime import interpreter

if sys.argv[1] == "shared":
    interpreter.share_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.fopen.restype = ctypes.c_void_p
all_here = threading.Barrier(8)

def takes_memory():
    all_here.wait()
    libc.malloc(100)
    all_here.wait()

threads = [threading.Thread(target=takes_memory) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
stream = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, stream)
libc.fclose(stream)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone gives threads pools of their own")
@pytest.mark.parametrize(("memory", "pools"), [("shared", range(1, 3)), ("as it is", range(8, 10))])
def test_threads_share_their_memory_where_that_is_asked_for(memory: str, pools: range) -> None:
    told = subprocess.run([sys.executable, "-c", ARENAS, memory], check=True, capture_output=True, text=True).stdout
    assert told.count("<heap nr=") in pools
