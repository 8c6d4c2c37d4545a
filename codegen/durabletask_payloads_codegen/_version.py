# Part of the header of each generated file. Raise it when the output for the same input changes.
GENERATOR_VERSION = "1.2"
