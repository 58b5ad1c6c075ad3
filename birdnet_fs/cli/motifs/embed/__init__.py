"""`birdnet-fs motifs embed`: an encoder trained on motifs without labels; one file per verb."""

from birdnet_fs.cli.commands import group
from birdnet_fs.cli.motifs.embed.apply import apply
from birdnet_fs.cli.motifs.embed.fitting import fit
from birdnet_fs.cli.motifs.embed.summary import summary

embed = group("embed", "Train an encoder on motifs without labels (Tile2Vec), and use it.", (fit, summary, apply))
