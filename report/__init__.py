"""A static site that shows what a run made and what went wrong. Reads the outputs; knows nothing of the pipeline."""
