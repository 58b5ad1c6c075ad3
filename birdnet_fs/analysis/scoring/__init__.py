"""Scores of the windows of many recordings, on all cores, in constant memory."""
