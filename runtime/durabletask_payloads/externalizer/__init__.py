"""Externalize and deexternalize messages: plan, validate, transfer, commit."""
