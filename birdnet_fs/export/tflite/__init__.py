"""Write TFLite files on Keras' TensorFlow backend and edit their flatbuffers."""
