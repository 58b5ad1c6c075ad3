"""`birdnet-fs motifs`: sounds that recur within recordings; one file per verb."""

from birdnet_fs.cli.commands import group
from birdnet_fs.cli.motifs.consolidate import consolidate
from birdnet_fs.cli.motifs.embed import embed
from birdnet_fs.cli.motifs.extract import extract
from birdnet_fs.cli.motifs.extract_top_motif import extract_top_motif
from birdnet_fs.cli.motifs.extract_triplets import extract_triplets
from birdnet_fs.cli.motifs.generate_triplets import generate_triplets
from birdnet_fs.cli.motifs.motif_track import motif_track
from birdnet_fs.cli.motifs.pages import pages

motifs = group(
    "motifs",
    "Find the sounds that recur within recordings, and work with them.",
    (extract, consolidate, extract_top_motif, motif_track, pages, generate_triplets, extract_triplets),
    groups=(embed,),
)
