"""`birdnet-fs motifs`: sounds that recur within recordings; one file per verb."""

from birdnet_fs.cli.commands import group
from birdnet_fs.cli.motifs.extract import extract

motifs = group("motifs", "Find the sounds that recur within recordings, and work with them.", (extract,))
