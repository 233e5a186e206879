"""Calibration: do the intervals and probabilities of a diagnosis hold?"""
