"""`birdnet-fs nocall`: models that find windows without calls."""

from birdnet_fs.cli.commands import group
from birdnet_fs.cli.nocall.fit_soundscape import fit_soundscape, fit_soundscape_cv

nocall = group(
    "nocall",
    "Fit models that find windows without calls, the gates of analyze --gate.",
    (fit_soundscape, fit_soundscape_cv),
)
