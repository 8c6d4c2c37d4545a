# Stands in the header of each generated file: raise it when the output for the same input changes.
GENERATOR_VERSION = "1.0"
