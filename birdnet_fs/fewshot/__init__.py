"""New classes from a few clips, without training. Training in episodes is in training/episodic.

enrollment           clips of new classes -> prototypes in the head, as a new run
calibration          embeddings -> prototypes, logit scale, logit of "unknown"
support              clips and embeddings that a run was enrolled with
few_shot_evaluation  accuracy of a run over episodes of new classes
correlation          spectrogram cross-correlation of clips
"""
