"""Recordings in, labeled segments out; damaged files end in a ledger and never in a crash.

faults.py     what a file's first and last bytes say: format, true data size, repairs; `AudioError`
decode.py     samples in blocks through libsndfile: the front of a damaged file is kept, bad samples counted
audio.py      `read_audio`, `stream_audio`, `check_audio`, `duration_s`, `find_audio`
ledger.py     every input ends as exactly one of ok, partial, quarantined
formats/      one small file per layout of labels; the table of layouts is in its __init__
where.py      `data.where`: which rows of a table to use
manifest.py   `read_manifest`: rows of any layout -> checked `Clip`s; `write_manifest`
windows.py    how recordings and clips are cut: start, length, padding, what happens to the rest
segments.py   clips -> fixed-length segments and multi-hot targets
copies.py     fingerprints of recordings: whether two files hold the same sound
score_table.py  scores of clips and windows as CSV: of evaluate, of teachers, of unlabeled recordings
splits.py     folds and splits grouped by recording; what leaks across them
aviary.py     synthetic recordings with exact labels (synthesis.py: how they sound)
"""
