"""Externalize and deexternalize messages: plan, transfer, commit."""
