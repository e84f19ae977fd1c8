"""The generators: each file reads like its paper and holds nothing of loading or looping."""
