# Source: durabletask/largepayloads/large_payload_purge.proto
# Generator: durabletask-payloads-codegen 1.2
# DO NOT EDIT: run make generate
"""The classes of durabletask/largepayloads/large_payload_purge.proto."""
