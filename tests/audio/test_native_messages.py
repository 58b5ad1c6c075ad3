"""Messages of C code are kept off the terminal while it decodes; messages of Python and of child processes are not."""

import subprocess
import sys

import pytest

SCRIPT = """
import ctypes, os, subprocess, sys, threading
from birdnet_fs.audio.native_messages import silenced
c = ctypes.CDLL(None)
def say(name, text):
    c.fprintf(ctypes.c_void_p.in_dll(c, name), text)
    c.fflush(ctypes.c_void_p.in_dll(c, name))
say("stderr", b"before\\n")
def work():
    with silenced():
        with silenced():
            say("stderr", b"chatter\\n"); say("stdout", b"chatter\\n")
            print("python", file=sys.stderr, flush=True)
            os.write(2, b"descriptor\\n")
            subprocess.run(["sh", "-c", "echo child >&2"])
            if os.fork() == 0:
                say("stderr", b"forked\\n")
                os._exit(0)
            os.wait()
thread = threading.Thread(target=work); thread.start(); thread.join()
work()
say("stderr", b"after\\n")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the C library of Windows has no such symbols")
def test_only_the_messages_of_c_code_are_discarded():
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True)
    own = ["python", "descriptor", "child", "forked"]
    assert done.stderr.split() == ["before", *own, *own, "after"] and done.stdout == ""


def test_decoding_of_a_noisy_mp3_prints_nothing(tmp_path):
    script = f"""
import io, sys, numpy as np, soundfile as sf
sys.path[:0] = {sys.path!r}
from birdnet_fs.audio.read import read_audio
x = 0.3 * np.random.default_rng(0).standard_normal(48_000).astype("f4")
sf.write({str(tmp_path / "x.mp3")!r}, x, 24_000)
raw = bytearray(open({str(tmp_path / "x.mp3")!r}, "rb").read())
raw[5000:5600] = bytes(600)
open({str(tmp_path / "y.mp3")!r}, "wb").write(raw)
if "naive" in sys.argv:
    for _ in sf.blocks({str(tmp_path / "y.mp3")!r}, 4096): pass
else:
    assert read_audio({str(tmp_path / "y.mp3")!r}, sample_rate_hz=24_000).status == "partial"
"""
    quiet = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (quiet.stdout, quiet.stderr) == ("", "")
    assert "mpg123" in subprocess.run([sys.executable, "-c", script, "naive"], capture_output=True, text=True).stderr
