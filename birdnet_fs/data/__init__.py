"""Labeled recordings: from tables of labels to clips, segments, targets, splits and episodes.

label_formats/         one file per layout of labels; the table of layouts is in its __init__
manifest.py            `read_manifest`: rows of any layout -> checked `Clip`s; `write_manifest`
ledger.py              the outcome of every input: ok, partial or quarantined, with the reason
tables/                text tables of any encoding and separator: rows, columns, times
row_checks.py          the clip of each row of labels and what is wrong with it
row_filter.py          `data.where`: which rows of a table are used
windows.py             how recordings and clips are cut: start, length, padding and the rest at the end
segments.py            clips -> fixed-length segments and their multi-hot targets
targets.py             labels of clips -> targets for a loss
waveforms.py           clips -> waveforms in memory
copies.py              fingerprints of recordings: whether two files hold the same recording
splits.py              folds and splits grouped by recording, and a report of what crosses them
partition.py           the training, validation and held-out clips of one run; partition.csv
episodes.py            few-shot episodes: support and query clips of a few classes
score_table.py         scores of clips and windows as CSV
pseudo_label_table.py  where a table of pseudo-labels lies and which runs made it
synthetic/             the synthetic aviary: generated recordings with exact labels
"""
