"""A new species from a few clips. Episodes are in batches, training and accuracy in episodes in training.

correlation  spectrogram cross-correlation of clips
novel        accuracy of a run on classes that are new to it, over many episodes
enrollment    clips of new classes -> prototypes in the head: a new run, in seconds, without training
calibration  embeddings -> prototypes, scale, the logit of "unknown"
support      what an enrolled run was enrolled with
events       timed detections against timed annotations: the event F-measure of the DCASE few-shot task
"""
