"""Run command lines one after another in this process, and report each: exit status, stderr, modules, CPU seconds.

    python cheap_commands.py < commands.json > results.json

Each command runs after a fork, so that what one imports is not there for the next.
"""

import json
import os
import resource
import sys
import tempfile

HEAVY = ("keras", "torch", "tensorflow", "sklearn", "matplotlib", "onnxruntime", "ai_edge_litert")


def run(arguments: list[str]) -> dict:
    """The outcome of one command line, from a forked child."""
    said = tempfile.TemporaryFile()  # noqa: SIM115, read after the child has ended
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.dup2(said.fileno(), 2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.argv = ["birdnet-fs", *arguments]
        status = 99
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        finally:
            sys.stderr.flush()
            os.write(writer, json.dumps({"status": status, "heavy": [m for m in HEAVY if m in sys.modules]}).encode())
            os._exit(0)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    os.close(writer)
    with os.fdopen(reader) as answer:
        found = json.loads(answer.read() or "{}")
    os.waitpid(child, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    said.seek(0)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {**found, "stderr": said.read().decode("utf-8", "replace"), "cpu_s": seconds}


if __name__ == "__main__":
    # modules that most verbs use and that are light are imported once, those of the command line by a wrong command
    import contextlib

    import birdnet_fs.cli.experiment
    import birdnet_fs.export.targets.check
    import birdnet_fs.inference.describe
    import birdnet_fs.inference.sidecar
    import birdnet_fs.reports.labeled
    import birdnet_fs.runs.ensemble  # noqa: F401
    from birdnet_fs.cli.main import main

    sys.argv = ["birdnet-fs", "models", "--classes", "0"]
    with contextlib.suppress(SystemExit):
        main()
    assert not [module for module in HEAVY if module in sys.modules]
    json.dump([run(arguments) for arguments in json.load(sys.stdin)], sys.stdout)
