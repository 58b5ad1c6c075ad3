"""Write ONNX, TorchScript, pt2 and OpenVINO files from the lowered network."""
