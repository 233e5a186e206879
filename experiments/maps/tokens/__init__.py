"""Tokens: where along a response training acts, by outside and by own rewards."""
