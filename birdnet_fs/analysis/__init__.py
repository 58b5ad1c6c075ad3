"""Tables of the detections of a model (a run, an ensemble or an exported file) in any number of recordings.

analyze.py        the batch: files and folders in, tables and a ledger out, resumable
options.py        thresholds, overlap and species list, checked
detections.py     probabilities -> detections: threshold, top n, consecutive windows merged
inputs.py         the recordings to analyze and the names of their tables
resume.py         one stamp per finished recording, so that an interrupted batch continues
table_formats/    detections -> the text of one output table; one file per format
pseudo_labels.py  unlabeled recordings -> a table of windows with probabilities as training targets
"""
