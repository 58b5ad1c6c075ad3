"""Quantization-aware training: networks with 8-bit weights and activations (`convert.quantize`)."""
