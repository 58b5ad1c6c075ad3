"""Score waveforms, clips and recordings with a run, an ensemble or an exported file."""
