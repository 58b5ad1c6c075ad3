"""Detection as in ANIMAL-SPOT: short windows with a short hop, a detector before the classifier, events and logs.

C. Bergler et al. 2022, "ANIMAL-SPOT enables animal-independent signal detection and classification using deep
learning", Scientific Reports 12; https://github.com/ChristianBergler/ANIMAL-SPOT, and the two stages of its fork.

preset   lengths and thresholds
windows  predictions of one window each, from the classifier and the detector
events   windows -> events: merged windows, or the most probable window of every slice
log      the prediction log that the evaluation of ANIMAL-SPOT reads
run      recordings -> tables
"""
