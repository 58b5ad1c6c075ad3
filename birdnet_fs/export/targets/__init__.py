"""Programs that load exported files: what each expects and the files it needs beside the model."""
