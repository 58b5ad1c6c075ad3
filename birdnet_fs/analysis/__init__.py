"""A run or artifact and recordings in, annotation tables out.

engines      a run folder, an ensemble or a .tflite artifact as one thing: waveforms -> logits
ensemble     several runs as one: the mean, power mean or mean rank of their probabilities
detections   probabilities -> detections: threshold, top n, consecutive windows merged
choice       what decides which scores are written: thresholds, overlap, species list
formats      detections -> the text of one output table; one file per format
inputs       which recordings, and what their tables are called
resume       what a batch remembers of each finished recording
clips        labeled clips: the mean probability of the windows that cover each
pseudo       unlabeled recordings -> a table of windows with probabilities, to train on
analyze      the batch: any files and folders, a ledger, resumable
"""
