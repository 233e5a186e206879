"""How often the check of logs raises an alarm: runs of the model itself, and runs that depart."""
