"""Training on foreign encoders: clips and augmented views are embedded once, and a head is fitted (encoder_heads)."""
