import platform
import subprocess
import sys

import pytest

from prefrl.machine.memory import keep_freed_memory

FAULTS = """
import resource, sys
import numpy as np
from prefrl.machine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
np.ones(2**18).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(200):
    blocks = [np.ones(2**18) for _ in range(4)]
    del blocks
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_blocks_are_used_again_without_page_faults() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    kept, returned = faults("keep"), faults("return")
    assert kept < 4 * 2**18 * 8 / 4096 * 2  # about once through the four blocks
    assert kept < returned / 20


def test_telling_the_allocator_twice_does_no_harm() -> None:
    assert keep_freed_memory() == keep_freed_memory()
