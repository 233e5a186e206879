"""What is known of the check case to all its digits: T0 without SFT, and after it."""

CHECK_START = 94.30486
CHECK_QUALITIES, CHECK_DURATIONS = (0.2, 0.5, 0.8), (1.0, 2.0, 4.0)
CHECK_TIMES = ((67.169, 49.064, 28.136), (31.664, 13.827, 3.514), (16.365, 5.136, 0.0))
"""T0 of the check case after SFT: one row a quality, one column a duration."""
