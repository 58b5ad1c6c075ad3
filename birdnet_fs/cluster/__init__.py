"""Many recordings in shards: planned, worked on by a cluster or by processes of one machine, merged.

plan        which recordings each shard has, and the files of a plan
run         one shard, with the engine of the command, and its result as one Parquet file
detections  results of `analyze`: written, read, merged
embeddings  results of `embed`: written, read, merged
jobs        shards as processes of this machine, or as an array of jobs of SLURM
status      what is done, running, failed or missing in a folder
"""
