"""Read and decode recordings: any damaged file ends with a status and a reason, never with an exception that stops a batch."""
