"""The main job: command line, configuration, graph, run record."""
