"""Tables over all recordings of an analysis: detections with clock times, and summaries.

stored             detections of finished recordings, kept with full precision beside their stamps
recorder_metadata  GUANO metadata and comments of AudioMoth in WAV files
clock_time         start of a recording by the clock, from its name and metadata
options            what is written, checked
tables             detections.csv and detections.parquet
summary            summary.csv and activity.csv
read               an analysis, to go on with its detections
write              one pass over the stored detections through all of them
"""
