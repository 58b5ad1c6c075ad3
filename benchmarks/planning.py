"""List and plan a million empty recordings: seconds of CPU and peak memory, each in a process of its own.

python benchmarks/planning.py [--n 1000000] [--folder /dev/shm]
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

PLAN = "from birdnet_fs.cluster.plan import make_plan, write_plan"
STEPS = {  # import and expression
    "list files": ("from birdnet_fs.core.walk import list_files", "list_files(folder)"),
    "find audio": ("from birdnet_fs.audio.find import find_audio", "find_audio(folder)"),
    "plan 64 shards": (PLAN, "make_plan('embed', {}, [folder], 64)"),
    "plan and write it": (PLAN, "write_plan(Path(folder + '.shards'), make_plan('embed', {}, [folder], 64))"),
}
MEASURE = """
import resource, sys, time
from pathlib import Path
STEP
folder, start = sys.argv[1], (time.process_time(), time.monotonic())
RUN
used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(f"{time.process_time() - start[0]:.1f} s | {time.monotonic() - start[1]:.1f} s | {used} MB")
"""


def make_recordings(folder: Path, n: int) -> None:
    for first in range(0, n, 1000):
        day = folder / f"site{first // 1000 % 20:02d}" / f"day{first // 20_000:03d}"
        day.mkdir(parents=True)
        for number in range(first, min(first + 1000, n)):
            os.close(os.open(day / f"20260501_{number:07d}.wav", os.O_CREAT | os.O_WRONLY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--folder", default="/dev/shm")
    given = parser.parse_args()
    print("| step | CPU | wall time | peak memory of the process |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=given.folder) as place:
        folder = Path(place, "recordings")
        make_recordings(folder, given.n)
        for name, (step, run) in STEPS.items():
            command = [sys.executable, "-c", MEASURE.replace("STEP", step).replace("RUN", run), str(folder)]
            print(f"| {name} | {subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()} |")


if __name__ == "__main__":
    main()
